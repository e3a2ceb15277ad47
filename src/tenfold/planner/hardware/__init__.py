"""Accelerators and clusters: what a plan is made for."""

from tenfold.planner.hardware.accelerator import PRECISIONS, Accelerator, Precision
from tenfold.planner.hardware.cluster import Cluster, Site, Tier, Wide
from tenfold.planner.hardware.default import default_cluster
from tenfold.planner.hardware.table import accelerator, accelerators

__all__ = [
    "PRECISIONS",
    "Accelerator",
    "Cluster",
    "Precision",
    "Site",
    "Tier",
    "Wide",
    "accelerator",
    "accelerators",
    "default_cluster",
]
