#!/bin/sh
# One task of the array is one learner: the command given, its last word the learner's name. No word is read by a shell.
exec "$@" "learner-$SLURM_ARRAY_TASK_ID"
