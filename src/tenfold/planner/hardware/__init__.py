"""Accelerators and clusters: what a plan is made for."""

from tenfold.planner.hardware.accelerator import PRECISIONS, Accelerator, Precision
from tenfold.planner.hardware.cluster import Cluster, Site, Tier, Wide
from tenfold.planner.hardware.default import default_cluster
from tenfold.planner.hardware.fabric import Fabric, Level, fabric, fabrics
from tenfold.planner.hardware.load import example_cluster, example_clusters, example_text, load_cluster, parse_cluster
from tenfold.planner.hardware.local import describe_local
from tenfold.planner.hardware.table import accelerator, accelerators
from tenfold.planner.hardware.write import render_cluster, write_cluster

__all__ = [
    "PRECISIONS",
    "Accelerator",
    "Cluster",
    "Fabric",
    "Level",
    "Precision",
    "Site",
    "Tier",
    "Wide",
    "accelerator",
    "accelerators",
    "default_cluster",
    "describe_local",
    "example_cluster",
    "example_clusters",
    "example_text",
    "fabric",
    "fabrics",
    "load_cluster",
    "parse_cluster",
    "render_cluster",
    "write_cluster",
]
