"""What a supervisor leads: the run, its names and folders, and what starts its learners."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tenfold.config import LINK_FAULTS, SYNCER, Campaign
from tenfold.core import CampaignFiles, Child, Ended, without_secrets


@dataclass(frozen=True)
class LocalRun:
    """What the supervisor needs to know."""

    campaign: Campaign
    directory: Path
    overrides: tuple[str, ...]
    token: str
    sequences: int
    steps: int
    tokens_per_sample: int

    @property
    def folder(self) -> Path:
        """State of the syncer and the learners, and their logs."""
        return CampaignFiles(self.directory).learners

    @property
    def logs(self) -> Path:
        """What the processes print."""
        return self.folder / "logs"

    @property
    def sets(self) -> list[str]:
        """The overrides as words of a command line, which all users of a machine can read.

        Those with a secret are left out: syncer and learners save no checkpoints of the campaign.
        """
        public = [override for override in self.overrides if without_secrets(override) == override]
        return [word for override in public for word in ("--set", override)]

    @property
    def learners(self) -> list[str]:
        """Names of the learners started from here, as processes or as jobs."""
        learners = self.campaign.learners
        return [f"learner-{number}" for number in range(learners.count)] if learners.launch != "none" else []

    @property
    def in_slurm(self) -> bool:
        """Whether learners are jobs of a Slurm cluster."""
        return self.campaign.learners.launch == "slurm"

    @property
    def syncers(self) -> list[str]:
        """Names of the syncer's processes: coordinator and shard 0 in the first, a shard in each further one."""
        return [SYNCER, *(f"{SYNCER}-{number}" for number in range(1, self.campaign.learners.syncer_shards))]

    @property
    def disturbs_links(self) -> bool:
        """Whether [chaos] asks for faults of connections, which then pass a proxy."""
        chaos = self.campaign.chaos
        kinds = {fault.kind for fault in chaos.faults} | (set(chaos.kinds) if chaos.per_hour else set())
        return bool(kinds & LINK_FAULTS)


class Launcher(Protocol):
    """What starts learners and knows which of them live: `Children` on this machine, `SlurmJobs` in a queue.

    Names are unique among those that live.
    """

    @property
    def running(self) -> list[str]:
        """Names of those that live, or wait to be started."""

    def start(self, child: Child) -> object:
        """Start it, or see to it that it is. Raises TenfoldError when one of that name is alive."""

    def poll(self) -> list[Ended]:
        """Everything that ended since the last call."""

    def kill(self, name: str) -> bool:
        """SIGKILL; whether it lived. `poll` tells how it ended."""

    def ask_to_stop(self, name: str) -> bool:
        """SIGTERM; whether it lived."""

    def stop_all(self, grace: float) -> None:
        """SIGTERM to all, and `grace` seconds later SIGKILL to what is left."""
