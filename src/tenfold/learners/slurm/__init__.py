"""Learners as jobs of a Slurm cluster. Front door."""

from tenfold.learners.slurm.commands import Slurm, check_slurm
from tenfold.learners.slurm.jobs import SlurmJobs, learner_job

__all__ = ["Slurm", "SlurmJobs", "check_slurm", "learner_job"]
