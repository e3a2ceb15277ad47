"""A thread that looks whether steps still come, and says where every thread of the process stands when none does.

The thread has nothing to do with the step: it wakes up a few times a second and compares two numbers. It only speaks;
it never ends a run.
"""

import statistics
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress

from tenfold.core import CampaignFiles
from tenfold.ledger import Evidence, EvidenceKind, IncidentClosed, Ledger, RunHangs
from tenfold.train import Batch, Observer, StepMeasure, Stopping

LEAST_S = 300.0
"""A step may take so long at least before it is called stalled."""
TIMES_LONGER = 20.0
"""How many times longer than the median of the last steps."""
LOOK_EVERY_S = 0.5
STEPS = 64


def stacks(skip: int | None = None) -> str:
    """The Python stack of every thread, innermost call last; `skip`: the number of a thread to leave out."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(number, number)}:\n{''.join(traceback.format_stack(frame)).rstrip()}"
        for number, frame in sys._current_frames().items()
        if number != skip
    )


class StallWatch(Observer):
    """Calls `tell(step, seconds, stacks)` once for every step that takes far longer than those before.

    `tell` is called in the watching thread: it must use nothing that belongs to the training thread.
    """

    name = "stall-watch"

    def __init__(
        self,
        tell: Callable[[int, float, str], None],
        *,
        least_seconds: float = LEAST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._least, self._clock = tell, least_seconds, clock
        self._recent: deque[float] = deque(maxlen=STEPS)
        self._step, self._since = 0, clock()
        self._told_of: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="stall-watch", daemon=True)

    def started(self, step: int) -> None:
        self._step, self._since = step, self._clock()
        if not self._thread.is_alive():
            self._thread.start()

    def before_step(self, batch: Batch) -> None:
        self._since = self._clock()

    def after_step(self, measure: StepMeasure) -> None:
        now = self._clock()
        if self._told_of == self._step:
            self.notice(IncidentClosed(hang_after(self._step).cause, "steps came again"), "steps come again")
        self._recent.append(now - self._since)
        self._step, self._since = measure.step, now

    def stopping(self, stopping: Stopping) -> None:
        self._stop.set()

    @property
    def patience(self) -> float:
        """Seconds after which a step counts as stalled."""
        usual = statistics.median(self._recent) if self._recent else 0.0
        return max(self._least, TIMES_LONGER * usual)

    def look(self) -> None:
        """Look once; what the thread does again and again."""
        seconds = self._clock() - self._since
        if seconds > self.patience and self._told_of != self._step:
            step, self._told_of = self._step, self._step
            with suppress(Exception):  # of the watching thread: whatever it is, training must not feel it
                self._tell(step, seconds, stacks(skip=threading.get_ident()))

    def _look(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self.look()


def hang_after(step: int, seconds: float | None = None) -> RunHangs:
    """The incident of a run that has come no further than `step`."""
    return RunHangs(step + 1, "time/step", seconds)


def write_stall(files: CampaignFiles, run_id: int | None, step: int, seconds: float, where: str) -> str:
    """Keep the stacks of a stalled run in a file and open its incident; the sentence that says so.

    It opens the ledger anew, since it is called in another thread than the one whose ledger it is.
    """
    files.stalls.mkdir(exist_ok=True)
    file = files.stalls / f"step-{step + 1:08d}.txt"
    file.write_text(where, encoding="utf-8")
    said = f"no step for {seconds:,.0f} s after step {step}; where every thread stands is in {file}"
    evidence = [Evidence(EvidenceKind.FILE, str(file.relative_to(files.directory)), "stacks of all threads")]
    with closing(Ledger(files.ledger)) as ledger:
        ledger.open_incident(hang_after(step, seconds), said, run_id=run_id, evidence=evidence)
    return said
