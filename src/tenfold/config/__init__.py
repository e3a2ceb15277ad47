"""The typed schema of campaign.toml and of a change to it. Front door: Campaign, its sections, loading them."""

from tenfold.config.campaign import FILE_NAME, Campaign, checked_fault, load_campaign, parse_campaign
from tenfold.config.change import Change, changed_campaign, load_change
from tenfold.config.data import Clean, Data, Holdout, Isolation, Source, TokenizerSettings
from tenfold.config.describe import example_names, example_values, render_campaign, render_reference
from tenfold.config.learners import Chaos, Fault, Learners, with_new_names
from tenfold.config.train import CheckpointSettings, Evaluate, Ladder, Model, Optimizer, Schedule, Train

__all__ = [
    "FILE_NAME",
    "Campaign",
    "Change",
    "Chaos",
    "CheckpointSettings",
    "Clean",
    "Data",
    "Evaluate",
    "Fault",
    "Holdout",
    "Isolation",
    "Ladder",
    "Learners",
    "Model",
    "Optimizer",
    "Schedule",
    "Source",
    "TokenizerSettings",
    "Train",
    "changed_campaign",
    "checked_fault",
    "example_names",
    "example_values",
    "load_campaign",
    "load_change",
    "parse_campaign",
    "render_campaign",
    "render_reference",
    "with_new_names",
]
