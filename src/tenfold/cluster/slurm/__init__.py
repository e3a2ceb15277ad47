"""Learners as jobs of a Slurm cluster. Front door."""

from tenfold.cluster.slurm.commands import Slurm, check_slurm
from tenfold.cluster.slurm.jobs import SlurmJobs, learner_job

__all__ = ["Slurm", "SlurmJobs", "check_slurm", "learner_job"]
