"""What starts learners and knows which of them live: this machine, or a queue of jobs."""

from typing import Protocol

from tenfold.learners.supervise.children import Child, Ended


class Launcher(Protocol):
    """`Children` starts processes here, `SlurmJobs` submits them. Names are unique among those that live."""

    @property
    def running(self) -> list[str]:
        """Names of those that live, or wait to be started."""

    def start(self, child: Child) -> object:
        """Start it, or see to it that it is. Raises TenfoldError when one of that name lives."""

    def poll(self) -> list[Ended]:
        """Everything that ended since the last call."""

    def kill(self, name: str) -> bool:
        """SIGKILL; whether it lived. `poll` tells how it ended."""

    def ask_to_stop(self, name: str) -> bool:
        """SIGTERM; whether it lived."""

    def stop_all(self, grace: float) -> None:
        """SIGTERM to all, and `grace` seconds later SIGKILL to what is left."""
