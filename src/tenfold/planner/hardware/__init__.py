"""Accelerators and clusters: what a plan is made for."""

from tenfold.planner.hardware.accelerator import PRECISIONS, Accelerator, Precision
from tenfold.planner.hardware.cluster import Cluster, Site, Tier, Wide

__all__ = ["PRECISIONS", "Accelerator", "Cluster", "Precision", "Site", "Tier", "Wide"]
