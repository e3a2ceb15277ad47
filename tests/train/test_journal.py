"""The journal and the console: what a run leaves in the ledger and says, and when."""

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tenfold.core.console import RunConsole
from tenfold.ledger import Ledger
from tenfold.ledger.events import CheckpointDamaged, ResumeNotExact
from tenfold.ledger.incidents import Evidence, EvidenceKind, IncidentClosed, LossNotFinite, LossSpiked
from tenfold.train.console import ConsoleLines, ConsoleWarnings, Stopwatch, Throughput
from tenfold.train.journal import Journal
from tenfold.train.observe import Notice, Stopping
from tenfold.train.step import StepMeasure


def measure(step: int, steps: int = 10, **more: object) -> StepMeasure:
    values = {"first_sample": 8 * step - 8, "samples": 8, "tokens": 128, "nats": 2.0, "bytes": 512.0, "grad_norm": 0.5}
    return StepMeasure(step=step, steps=steps, learning_rate=0.01, seconds=0.25, **{**values, **more})  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield ledger


def losses(ledger: Ledger, run_id: int | None) -> list[tuple[int, float]]:
    assert run_id is not None
    return ledger.metric(run_id, "train/loss")


def test_metrics_are_written_together_at_the_end_and_before_a_checkpoint(ledger: Ledger) -> None:
    journal = Journal(ledger, "f", {}, flush_every=4)
    counts = []
    for step in range(1, 11):
        journal.after_step(measure(step))
        if step == 6:
            journal.saving(6)
        counts.append(len(losses(ledger, journal.run_id)))
    assert counts == [0, 0, 0, 4, 4, 6, 6, 8, 8, 10]
    assert journal.recorded("train/bits_per_byte", 3) == [(s, measure(s).bits_per_byte) for s in (1, 2, 3)]
    assert ledger.metric(1, "train/grad_norm")[0] == (1, 0.5) and ledger.metric(1, "train/learning_rate")[0] == (
        1,
        0.01,
    )


def test_a_step_again_replaces_what_it_had(ledger: Ledger) -> None:
    journal = Journal(ledger, "f", {})
    journal.after_step(measure(1))
    journal.after_step(measure(1, nats=3.0))
    assert losses(ledger, journal.run_id) == [(1, 3.0)]


def test_a_run_resumed_as_another_takes_over_the_metrics_up_to_there(ledger: Ledger) -> None:
    before = Journal(ledger, "before", {})
    for step in range(1, 8):
        before.after_step(measure(step))
    after = Journal(ledger, "after", {})
    after.resumed(5, SimpleNamespace(meta={"fingerprint": "before"}))  # type: ignore[arg-type]
    assert [step for step, _ in losses(ledger, after.run_id)] == [1, 2, 3, 4, 5]
    (event,) = ledger.events(after.run_id)
    assert event.kind == "resumed" and event.data == {"step": 5}


def test_what_is_noticed_is_an_event_or_an_incident(ledger: Ledger) -> None:
    journal = Journal(ledger, "f", {})
    journal.noticed(Notice(CheckpointDamaged("here", "no manifest"), "here: no manifest; skipped"))
    journal.noticed(Notice(LossNotFinite(4), "step 4"))
    assert [event.payload for event in ledger.events()] == [CheckpointDamaged("here", "no manifest")]
    assert [incident.payload for incident in ledger.incidents()] == [LossNotFinite(4)]


@pytest.mark.parametrize(
    ("stopping", "events", "incidents"),
    [
        (Stopping("done", 10), [], []),
        (Stopping("interrupted", 4, "asked to stop"), ["interrupted"], []),
        (Stopping("failed", 4, "step 4", LossNotFinite(4)), [], ["not-finite"]),
    ],
)
def test_how_a_run_ended_is_its_status(
    stopping: Stopping, events: list[str], incidents: list[str], ledger: Ledger
) -> None:
    journal = Journal(ledger, "f", {}, flush_every=100)
    journal.after_step(measure(1))
    journal.stopping(stopping)
    (run,) = ledger.runs()
    assert run.status == stopping.status and run.finished_at is not None
    assert [event.kind for event in ledger.events()] == events
    assert [incident.kind for incident in ledger.incidents()] == incidents
    assert losses(ledger, journal.run_id) == [(1, 2.0)]


def test_holdouts_are_kept_by_their_names(ledger: Ledger) -> None:
    journal = Journal(ledger, "f", {})
    journal.note_holdouts(3, {"iid": 1.5})
    journal.flush()
    assert ledger.metric(1, "holdout/iid/bits_per_byte") == [(3, 1.5)]


def test_a_rank_without_ledger_writes_nothing_and_does_not_grow() -> None:
    journal = Journal(None, "f", {})
    journal.after_step(measure(1))
    journal.noticed(Notice(ResumeNotExact(), "x"))
    journal.resumed(5, SimpleNamespace(meta={}))  # type: ignore[arg-type]
    journal.stopping(Stopping("interrupted", 1, "x"))
    assert journal.recorded("train/loss", 9) == [] and not journal._waiting


# The console


class Lines(RunConsole):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("test"))
        self.lines: list[str] = []
        self.done: list[float] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        self.lines.append(f"warning: {line}")

    def advance(self, done: float, total: float | None, what: str = "train") -> None:
        self.done.append(done)


def a_learner(log_every: int = 5, world_size: int = 1, rank: int = 0):  # type: ignore[no-untyped-def]
    """As much of a learner as throughput and console look at."""
    import torch

    from tenfold.train.ranks import Ranks

    plan = SimpleNamespace(
        steps=10,
        tokens_per_step=128,
        flops_per_token=1e3,
        parameters=1234,
        threads=1,
        compute_dtype=torch.float32,
        compiled=False,
    )
    return SimpleNamespace(
        plan=plan,
        train=SimpleNamespace(log_every=log_every),
        ranks=Ranks(rank, world_size, torch.device("cpu")),
        stream=SimpleNamespace(epochs=lambda samples: {"web": samples / 80}),
    )


def test_rates_are_of_each_interval_and_go_to_the_ledger(ledger: Ledger) -> None:
    journal = Journal(ledger, "f", {}, flush_every=5)
    throughput = Throughput(a_learner(), journal)
    throughput.started(0)
    found = []
    for step in range(1, 11):
        throughput.after_step(measure(step))
        journal.after_step(measure(step))
        found.append(throughput.latest is not None)
    assert found == [False, False, False, False, True] * 2
    for name in ("tokens_per_second", "mfu", "overhead", "peak_memory"):
        assert [step for step, _ in ledger.metric(1, f"train/{name}")] == [5, 10]
    assert all(value > 0 for _, value in ledger.metric(1, "train/mfu"))
    assert throughput.latest is not None and throughput.latest.eta == 0.0


def test_a_brief_run_notes_no_memory(ledger: Ledger) -> None:
    journal = Journal(ledger, "f", {})
    throughput = Throughput(a_learner(log_every=1), journal, brief=True)
    throughput.started(0)
    throughput.after_step(measure(1))
    journal.flush()
    assert "train/mfu" in ledger.metric_names(1) and "train/peak_memory" not in ledger.metric_names(1)


def test_a_further_rank_measures_no_peak() -> None:
    throughput = Throughput(a_learner(log_every=1, world_size=2, rank=1), Journal(None, "f", {}))
    throughput.started(0)
    throughput.after_step(measure(1))
    assert throughput.latest is not None and throughput.latest.mfu == 0.0


def test_a_pause_is_nobodys_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("tenfold.train.console.time.perf_counter", lambda: now)
    watch = Stopwatch()
    now += 2
    with watch.paused():
        now += 30
    now += 1
    assert watch.seconds == 3
    watch.reset()
    assert watch.seconds == 0


def test_one_line_says_all_and_the_bar_moves_every_step() -> None:
    console, learner = Lines(), a_learner()
    throughput = Throughput(learner, Journal(None, "f", {}))
    lines = ConsoleLines(console, learner, throughput, beside=lambda: "inside the 95% band")
    lines.resumed(4, SimpleNamespace(path="checkpoints/step-00000004"))  # type: ignore[arg-type]
    throughput.started(4)
    lines.started(4)
    for step in range(5, 11):
        throughput.after_step(measure(step))
        lines.after_step(measure(step))
    lines.noticed(Notice(ResumeNotExact(), "look"))
    assert console.lines[0] == "resumed from checkpoints/step-00000004 at step 4/10"
    assert console.lines[1].startswith("training 1,234 parameters on 768 tokens: 10 steps of 128 tokens, 1 × cpu")
    line = console.lines[2]
    assert line.startswith("step  5/10  loss 2.0000  bpb 0.721  lr 1.00e-02  grad 0.50  ")
    assert "data 0.50 epochs  ETA " in line and line.endswith("  inside the 95% band")
    assert console.lines[3].startswith("step 10/10") and console.lines[4:] == ["warning: look"]
    assert console.done == [5, 6, 7, 8, 9, 10]


def test_many_small_runs_say_warnings_alone() -> None:
    console = Lines()
    ConsoleWarnings(console).noticed(Notice(ResumeNotExact(), "look"))
    assert console.lines == ["warning: look"]


def test_a_notice_carries_evidence_and_the_end_of_an_incident(ledger: Ledger) -> None:
    journal, console = Journal(ledger, "f", {}), Lines()
    evidence = Evidence(EvidenceKind.METRIC, "train/loss 4–6", "5.0, expected 3.0")
    closed = IncidentClosed(LossSpiked(4, "train/loss").cause, "back after 2 steps")
    notices = [Notice(LossSpiked(4, "train/loss"), "loss 5", (evidence,)), Notice(closed, "loss spike is over")]
    for notice in notices:
        journal.noticed(notice)
        ConsoleWarnings(console).noticed(notice)
    (incident,) = ledger.incidents(journal.run_id)
    assert incident.evidence == (evidence,) and incident.verdict == "back after 2 steps" and incident.closed_at
    assert console.lines == ["warning: loss 5", "loss spike is over"]
