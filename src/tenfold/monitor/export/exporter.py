"""An observer that sends a run's figures to a tracker, from a process of its own.

Trackers are large packages with threads of their own; one that is slow, prints, leaks or fails must not touch the run.
So the run only starts the process that follows its ledger, looks whether it is still there, and waits a while at the
end. One that ended by itself is reported and taken out, as every observer that fails.
"""

import os
import subprocess
import sys
from pathlib import Path

from tenfold.core import CampaignFiles, TenfoldError, last_line
from tenfold.monitor.export.sending import FOLDER
from tenfold.train import Journal, Learner, Observer, StepMeasure, Stopping

LAST_WORDS_S = 60.0
"""How long the end of a run waits for what is still to be sent."""
OF_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")


class Exporter(Observer):
    """Follows the run of `number` in the campaign's ledger for one tracker. On the first rank alone."""

    def __init__(self, campaign: Path, to: str, number: int) -> None:
        self.name = f"tracker-{to}"  # type: ignore[misc]  # there may be one for each tracker
        self._words = ["metrics", "send", str(campaign), "--to", to, "--run", str(number), "--follow", "--child"]
        self._log, self._from = campaign / FOLDER / f"{to}.log", 0
        self._process: subprocess.Popen[bytes] | None = None

    def started(self, step: int) -> None:
        """Start the process. It ends with this one, which holds the other end of its standard input."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if key not in OF_RANKS}
        with self._log.open("ab") as log:
            self._from = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tenfold", *self._words],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def after_step(self, measure: StepMeasure) -> None:
        if self._process is not None and self._process.poll() is not None:
            self._ended(self._process.returncode)

    def stopping(self, stopping: Stopping) -> None:
        """Let it send the rest: the journal, which comes before, has written everything."""
        if self._process is None:
            return
        if self._process.stdin:
            self._process.stdin.close()
        try:
            code = self._process.wait(LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise TenfoldError(f"it did not end within {LAST_WORDS_S:.0f} s of the run") from None
        if code:
            self._ended(code)

    def _ended(self, code: int) -> None:
        """Raises TenfoldError with the last line that it said."""
        if self._process is not None and self._process.stdin:
            self._process.stdin.close()
        self._process = None
        raise TenfoldError(last_line(self._log, self._from) or f"its process ended with status {code}")


def exporters_of(learner: Learner, journal: Journal, files: CampaignFiles) -> list[Observer]:
    """One for each of watch.trackers, on the first rank."""
    if journal.run_id is None:
        return []
    return [Exporter(files.directory, name, journal.run_id) for name in learner.campaign.watch.trackers]
