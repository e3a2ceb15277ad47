"""A campaign small enough for a test: a few dozen real files, 40 steps, one thread."""

import shutil
from pathlib import Path

from tenfold.campaign import run_campaign, run_data
from tests.data.texts import library_texts, write_texts
from tests.once import made_once

TOML = """
name = "small"
[data]
sources = [{ kind = "files", paths = ["texts"] }]
holdouts = [{ name = "iid", kind = "split", fraction = 0.1, max_bytes = 20000 }]
tokenizer = { vocab_size = 400 }
[model]
depth = 2
width = 32
head_dim = 16
context = 32
base_width = 32
base_depth = 2
[train]
tokens = 10240
batch_tokens = 256
compile = "off"
threads = 1
[checkpoint]
every = 10
[ladder]
sizes = 0
"""

_LADDER = """[evaluate]
stride = 32
[ladder]
sizes = 3
budgets = 4
smallest = 0.05
largest = 0.4
workers = 1
"""
_CHANGES = {"\ndepth = 2\nwidth = 32": "\ndepth = 1\nwidth = 64", "tokens = 10240": "tokens = 16384"}


def new_campaign(directory: Path, texts: int = 30) -> Path:
    """A campaign directory with text and campaign.toml, nothing run."""
    write_texts(directory / "texts", library_texts(texts, max_bytes=12_000))
    (directory / "campaign.toml").write_text(TOML)
    return directory


def new_ladder_campaign(directory: Path) -> Path:
    """A campaign large enough for three sizes of two rungs each below it, its corpus built and nothing trained."""
    toml = (built_campaign(directory) / "campaign.toml").read_text().partition("[ladder]")[0] + _LADDER
    for old, new in _CHANGES.items():
        toml = toml.replace(old, new)
    (directory / "campaign.toml").write_text(toml)
    return directory


def built_campaign(directory: Path) -> Path:
    """A new campaign with its corpus built, once in a run of the tests and then copied."""
    return copy_of(made_once("built", _build), directory)


def finished_campaign(directory: Path) -> Path:
    """A campaign run to the end, once in a run of the tests and then copied."""
    return copy_of(made_once("finished", _finish), directory)


def _build(directory: Path) -> None:
    run_data(new_campaign(directory), ())


def _finish(directory: Path) -> None:
    run_campaign(built_campaign(directory), ())


def copy_of(campaign: Path, to: Path) -> Path:
    """A campaign directory copied, times of files kept so that its corpus still counts as unchanged."""
    return Path(shutil.copytree(campaign, to, dirs_exist_ok=True))
