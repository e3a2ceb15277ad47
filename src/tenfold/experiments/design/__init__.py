"""The ladder: which small runs to train before the target, and with which settings."""

from tenfold.experiments.design.design import Rung, Target, Trunk, design_ladder, multiplying_parameters, target_of
from tenfold.experiments.design.recipe import rung_campaign, scaled_rates, trunk_campaign

__all__ = [
    "Rung",
    "Target",
    "Trunk",
    "design_ladder",
    "multiplying_parameters",
    "rung_campaign",
    "scaled_rates",
    "target_of",
    "trunk_campaign",
]
