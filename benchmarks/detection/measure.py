"""The detection benchmark's table, from what `record` wrote.

    python -m benchmarks.detection.measure --folder DIR --choose 1 --seed 2 [--json FILE]

Recall and median delay by kind of fault, false incidents and run length on healthy training, grouping, lead time before
a slow divergence; baselines in the same table at their published threshold and at the one that gives as few false
incidents as ours on the healthy runs of `--choose`. One fault counts once, whatever it sets off.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.detection.baselines import BASELINES, incidents, scores_of
from benchmarks.detection.faults import FAULTS
from benchmarks.detection.recorded import Run, fault_runs, healthy_runs, history_runs

from tenfold.monitor.detect.bank import Bank
from tenfold.monitor.detect.cases import Told

FOREVER = 1 << 20
SILENT = 200
HARM = 0.03
"""A fault is harmful if a mean of the loss over 32 steps is so much above that of the clean twin, with its batches."""


@dataclass
class Outcome:
    """One fault in one replica: steps from onset to the first incident, kinds of incidents opened since the onset."""

    delay: int | None
    kinds: list[str] = field(default_factory=list)
    harmful: bool = True
    verdicts: list[str] = field(default_factory=list)


def watch(bank: Bank, run: Run) -> list[tuple[int, Told]]:
    """Show the bank every step of a run; (step, word)."""
    return [(step, word) for step, row in run.rows() for word in bank.update(step, row)]


def outcomes(folder: Path, seed: int, kinds: Sequence[str]) -> dict[str, list[Outcome]]:
    """Every fault, each after its history; detectors go on from their saved state."""
    histories = history_runs(folder, seed)
    found: dict[str, list[Outcome]] = {kind: [] for kind in kinds}
    branches = {kind: fault_runs(folder, seed, kind) for kind in kinds}
    for replica, history in enumerate(histories):
        states = _states(history, sorted({runs[replica].first for runs in branches.values()}))
        for kind, runs in branches.items():
            run, bank = runs[replica], Bank(planned=history.planned)
            bank.load_state_dict(json.loads(states[run.first]))
            found[kind].append(_outcome(run, watch(bank, run), history))
    return found


def _states(history: Run, firsts: Sequence[int]) -> dict[int, str]:
    """The bank's state before each of these steps, as a checkpoint would keep it."""
    bank, states = Bank(planned=history.planned), {}
    for step, row in history.rows():
        if step in firsts:
            states[step] = json.dumps(bank.state_dict(), allow_nan=False)
        if step > firsts[-1]:
            break
        bank.update(step, row)
    return states


def _outcome(run: Run, words: Sequence[tuple[int, Told]], history: Run) -> Outcome:
    assert run.onset is not None
    after = [(step, word) for step, word in words if step >= run.onset]
    opened = [(step, word) for step, word in after if word.is_new]
    kinds = [str(word.what.kind) for _, word in opened]  # type: ignore[union-attr]
    verdicts = [word.message for _, word in after if not hasattr(word.what, "step")]
    delay = opened[0][0] - run.onset if opened else None
    return Outcome(delay, kinds, bool((harm_ratio(run, history) > 1 + HARM).any()), verdicts)


def harm_ratio(run: Run, history: Run) -> np.ndarray:
    """(steps − 31,) mean loss over 32 steps, over the clean twin's."""
    length = min(len(run), len(history) - run.first + 1)
    twin = history.values["train/loss"][run.first - 1 : run.first - 1 + length]
    window = np.ones(32) / 32
    loss = np.nan_to_num(run.values["train/loss"][:length], nan=1e3, posinf=1e3)
    return np.convolve(loss, window, "valid") / np.convolve(twin, window, "valid")


def fault_scores(folder: Path, seed: int, kinds: Sequence[str], name: str) -> dict[str, list[np.ndarray]]:
    """A baseline's scores from the onset on, for each fault."""
    histories = history_runs(folder, seed)
    return {
        kind: [_scores(name, run, h) for run, h in zip(fault_runs(folder, seed, kind), histories, strict=True)]
        for kind in kinds
    }


def _scores(name: str, run: Run, history: Run) -> np.ndarray:
    assert run.onset is not None
    joined = {n: np.concatenate([v[: run.first - 1], run.values[n]]) for n, v in history.values.items()}
    return scores_of(name, joined)[run.onset - 1 :]


def first_over(scores: np.ndarray, threshold: float) -> int | None:
    """Steps to the first alarm."""
    hits = np.flatnonzero(scores > threshold)
    return int(hits[0]) if len(hits) else None


def healthy(folder: Path, seed: int) -> dict[str, Any]:
    """False incidents, and the run length between them."""
    runs = healthy_runs(folder, seed)
    false = []
    for run in runs:
        words = watch(Bank(planned=run.planned), run)
        false += [(run.setting.name, word.message) for _, word in words if word.is_new]
    return {"steps": sum(map(len, runs)), "runs": len(runs), "false": false}


def clean_scores(folder: Path, seed: int, name: str) -> list[np.ndarray]:
    """A baseline's scores on healthy runs; it is told of planned changes too, and keeps silent for SILENT steps."""
    given = []
    for run in healthy_runs(folder, seed):
        scores, rates = scores_of(name, run.values), run.values["train/learning_rate"]
        leaps = np.flatnonzero(np.abs(np.diff(np.log(rates))) > np.log(1.5)) + 1
        for change in [*(step - 1 for step in run.planned), *leaps.tolist()]:
            scores[change : change + SILENT] = 0
        given.append(scores)
    return given


def matched_threshold(folder: Path, seed: int, name: str, allowed: int) -> float:
    """The lowest threshold at which a baseline has at most so many incidents on healthy runs."""
    scores = clean_scores(folder, seed, name)
    candidates = np.unique(np.concatenate([np.sort(s)[-400:] for s in scores]))
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        count = sum(len(incidents(s, candidates[middle])) for s in scores)
        low, high = (low, middle) if count <= allowed else (middle + 1, high)
    return float(candidates[low])


def baseline_rows(folder: Path, choose: int, seed: int, kinds: Sequence[str], allowed: int) -> dict[str, Any]:
    """Each baseline at its own threshold and at the matched one."""
    rows: dict[str, Any] = {}
    for name, (_, _, published) in BASELINES.items():
        clean = clean_scores(folder, seed, name)
        faulty = fault_scores(folder, seed, kinds, name)
        matched = matched_threshold(folder, choose, name, allowed)
        for label, threshold in (("published", published), ("matched", matched)):
            delays = {kind: [first_over(s, threshold) for s in scores] for kind, scores in faulty.items()}
            false = sum(len(incidents(s, threshold)) for s in clean)
            rows[f"{name}, {label}"] = {"threshold": threshold, "false": false, "delays": delays}
    return rows


def summary(delays: Sequence[int | None]) -> str:
    """Recall and median delay."""
    hit = [delay for delay in delays if delay is not None]
    return f"{len(hit)}/{len(delays)}" + (f" {statistics.median(hit):.0f}" if hit else " –")


def leads(folder: Path, seed: int, found: Sequence[Outcome]) -> list[int | None]:
    """Slow divergence: steps from the first incident to the loss, a mean of 32, leaving the twin's by 3%.

    None where the loss never leaves it within the record; the twin ends 1,500 steps after the last snapshot.
    """
    given = []
    for run, history, outcome in zip(
        fault_runs(folder, seed, "rate creep"), history_runs(folder, seed), found, strict=True
    ):
        out = np.flatnonzero(harm_ratio(run, history) > 1.03)
        assert run.onset is not None
        if not len(out):
            given.append(None)
        else:
            left = run.first + int(out[0]) + 31
            given.append(left - (run.onset + outcome.delay) if outcome.delay is not None else -FOREVER)
    return given


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--choose", type=int, default=1)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--kinds", nargs="*")
    parser.add_argument("--skip", nargs="*", default=[], choices=("faults", "healthy", "baselines"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    kinds = given.kinds or list(FAULTS)
    found = {} if "faults" in given.skip else outcomes(given.folder, given.seed, kinds)
    report: dict[str, Any] = {"faults": {kind: [vars(o) for o in rows] for kind, rows in found.items()}}
    print(f"{'kind':20} {'all':>10} {'harmful':>10}  one incident, kinds")
    for kind, rows in found.items():
        showing = [o for o in rows if o.harmful]
        hit = [o for o in rows if o.kinds]
        names = {name: sum(o.kinds[0] == name for o in hit) for name in dict.fromkeys(o.kinds[0] for o in hit)}
        print(f"{kind:20} {summary([o.delay for o in rows]):>10} {summary([o.delay for o in showing]):>10}  "
              f"{sum(len(o.kinds) == 1 for o in hit)}/{len(hit)} {names}")  # fmt: skip
    if "rate creep" in found:
        report["leads"] = leads(given.folder, given.seed, found["rate creep"])
        print("lead before 3%:", report["leads"])
    if "healthy" not in given.skip:
        report["healthy"] = healthy(given.folder, given.seed)
        print(report["healthy"])
    if "baselines" not in given.skip:
        allowed = len(healthy(given.folder, given.choose)["false"])
        report["baselines"] = baseline_rows(given.folder, given.choose, given.seed, kinds, allowed)
        for name, row in report["baselines"].items():
            print(f"{name}: threshold {row['threshold']:.3g}, false {row['false']}")
            print("  " + ", ".join(f"{kind} {summary(delays)}" for kind, delays in row["delays"].items()))
    if given.json:
        given.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
