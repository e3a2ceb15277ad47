"""What tests of experiments need of a campaign directory."""

import logging
from collections.abc import Sequence
from pathlib import Path

from tenfold.config import load_campaign
from tenfold.core.console import RunConsole
from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.data.workspace import Workspace


def workspace_at(directory: Path, overrides: Sequence[str] = ()) -> Workspace:
    """A campaign with the corpus that lies there, even one made under another seed."""
    campaign, files = load_campaign(directory, overrides), CampaignFiles(directory)
    console = RunConsole(logging.getLogger("tenfold"))
    return Workspace(campaign, files, console, tuple(overrides), known_manifest=Manifest.load(files.data))
