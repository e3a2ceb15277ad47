"""The typed schema of campaign.toml. Front door: Campaign, load_campaign and the sections."""

from tenfold.config.campaign import Campaign
from tenfold.config.data import Clean, Data, Holdout, Isolation, Source, Tokenizer
from tenfold.config.model import Model
from tenfold.config.train import Checkpoint, Evaluate, Optimizer, Schedule, Train

__all__ = [
    "Campaign",
    "Checkpoint",
    "Clean",
    "Data",
    "Evaluate",
    "Holdout",
    "Isolation",
    "Model",
    "Optimizer",
    "Schedule",
    "Source",
    "Tokenizer",
    "Train",
]
