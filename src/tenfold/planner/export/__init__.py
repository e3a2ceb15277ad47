"""A planned job as settings of the programs that can train it."""

from tenfold.planner.export.campaign import campaign_sections
from tenfold.planner.export.job import Job
from tenfold.planner.export.megatron import megatron_arguments, megatron_text
from tenfold.planner.export.torchtitan import torchtitan_toml

__all__ = ["Job", "campaign_sections", "megatron_arguments", "megatron_text", "torchtitan_toml"]
