"""Figures of a run on their way from the ledger to a tracker: each once, whoever is killed in between."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from tenfold.core import InputError, TenfoldError, read_json, write_json
from tenfold.ledger import Ledger, Run
from tenfold.monitor.export.trackers import TrackedRun, Tracker, open_tracker
from tenfold.monitor.reading import ledger_of

FOLDER = "trackers"
"""Of a campaign: what trackers write, and how far each has come."""
POLL_S = 1.0
SHOWN_ID = 12


def new_figures(ledger: Ledger, run_id: int, sent: Mapping[str, int]) -> dict[int, dict[str, float]]:
    """Step → name → value of what is beyond the steps `sent` of each metric, in order of step."""
    found: dict[int, dict[str, float]] = {}
    for name in ledger.metric_names(run_id):
        for step, value in zip(*ledger.columns(run_id, name, after=sent.get(name, -1)), strict=True):
            found.setdefault(step, {})[name] = float("nan") if value is None else value
    return dict(sorted(found.items()))


class Sender:
    """Sends what is new of one run to one tracker, and remembers it in a file after every round.

    What was sent and not yet remembered when the process was killed is sent again: twice rather than never.
    """

    def __init__(self, ledger: Ledger, run_id: int, tracker: Tracker, memory: Path) -> None:
        self._ledger, self._run_id, self._tracker, self._memory = ledger, run_id, tracker, memory
        self._sent: dict[str, int] = {name: int(step) for name, step in (read_json(memory) or {}).items()}

    def send(self) -> int:
        """One round; how many figures it sent."""
        rows = new_figures(self._ledger, self._run_id, self._sent)
        for step, values in rows.items():
            self._tracker.write(step, values)
            self._sent |= dict.fromkeys(values, step)
        if rows:
            write_json(self._memory, self._sent, durable=False)
        return sum(map(len, rows.values()))


def send_run(
    campaign: Path,
    to: str,
    *,
    number: int | None = None,
    follow: bool = False,
    goes_on: Callable[[], bool] = lambda: True,
) -> tuple[int, Path]:
    """Send the newest training run of a campaign, or run `number`, to the tracker `to`.

    Returns how many figures were sent, and the folder. `follow`: until the run is over or `goes_on` says no. Raises
    InputError where there is no such run or tracker, or its package is missing; TenfoldError where the tracker fails.
    """
    folder = campaign / FOLDER / to
    with ledger_of(campaign) as ledger, _explained(to):
        run = _chosen(ledger, campaign, number)
        label = TrackedRun(campaign.resolve().name or "campaign", run.fingerprint[:SHOWN_ID], run.description)
        folder.mkdir(parents=True, exist_ok=True)
        with closing(open_tracker(to, folder, label)) as tracker:
            sender = Sender(ledger, run.id, tracker, folder / f"sent-{label.id}.json")
            return sum(_rounds(sender, lambda: follow and goes_on() and _runs(ledger, run.id))), folder


@contextmanager
def _explained(to: str) -> Iterator[None]:
    """Whatever a package of others raises, as one line."""
    try:
        yield
    except TenfoldError:
        raise
    except Exception as error:
        line = " ".join(str(error).split())
        raise TenfoldError(f"tracker {to}: {type(error).__name__}: {line}") from error


def _rounds(sender: Sender, goes_on: Callable[[], bool]) -> Iterator[int]:
    """Rounds until it does not go on, and one after that."""
    while goes_on():
        yield sender.send()
        time.sleep(POLL_S)
    yield sender.send()


def _chosen(ledger: Ledger, campaign: Path, number: int | None) -> Run:
    found = [run for run in ledger.runs() if (run.kind == "train" if number is None else run.id == number)]
    if not found:
        raise InputError(f"{campaign}: {'no run has trained here yet' if number is None else f'no run {number}'}")
    return found[-1]


def _runs(ledger: Ledger, run_id: int) -> bool:
    return any(run.id == run_id and run.status == "running" for run in ledger.runs())
