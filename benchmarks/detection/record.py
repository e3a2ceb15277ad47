"""Records healthy training and training with faults: every signal by step and replica, as npz, resumable.

    python -m benchmarks.detection.record healthy --seed 1 --steps 8000 --out DIR
    python -m benchmarks.detection.record faults --seed 1 --out DIR

Healthy: two replicas of each of the 15 configurations. Faults: 21 replicas of seven configurations train to a common
history; each kind of fault branches off one of its snapshots.
"""

import argparse
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from benchmarks.detection.faults import FAULTS, draw
from benchmarks.detection.tiny import SETTINGS, Hooks, Setting, Trainer

SNAPSHOTS = (1200, 1500, 1800, 2100, 2400)
HORIZON = 6000
FAULTY = ("plain", "low rate", "high rate", "cosine", "long memory", "no clipping", "large initial scale")
PIECE = 250


class Recording:
    """Signals of some steps, written as one file: name → [steps, replicas] float32."""

    def __init__(self) -> None:
        self.rows: dict[str, list[np.ndarray]] = {}

    def add(self, signals: dict[str, np.ndarray]) -> None:
        for name, values in signals.items():
            self.rows.setdefault(name, []).append(np.asarray(values, np.float32))

    def write(self, path: Path, **more: np.ndarray) -> None:
        arrays = {name: np.stack(rows) for name, rows in self.rows.items()} | more
        partial = path.with_suffix(".partial.npz")
        np.savez_compressed(partial, **arrays)
        partial.rename(path)


def timed(trainer: Trainer, hooks: Hooks) -> dict[str, np.ndarray]:
    """One step's signals, and its real seconds."""
    began = time.perf_counter()
    signals = trainer.execute(hooks)
    return signals | {"time/step": np.full(1, time.perf_counter() - began)}


def healthy(seed: int, steps: int, out: Path) -> None:
    """In pieces, the trainer's state beside the last of them."""
    settings = [setting for setting in SETTINGS for _ in range(2)]
    trainer = Trainer(settings, seed, steps)
    saved = out / f"healthy-{seed}.state.pt"
    if saved.exists():
        trainer.load(torch.load(saved, weights_only=False))
    while trainer.step < steps:
        recording = Recording()
        first = trainer.step
        for _ in range(PIECE):
            recording.add(timed(trainer, Hooks()))
        recording.write(out / f"healthy-{seed}-{first:06d}.npz")
        torch.save(trainer.state(), saved)
        print(f"healthy {seed}: step {trainer.step}", flush=True)


def fault_settings() -> list[Setting]:
    """Seven configurations, three replicas each."""
    return [setting for setting in SETTINGS if setting.name in FAULTY for _ in range(3)]


def faults(seed: int, out: Path) -> None:
    """The history with its snapshots, then a branch for each kind."""
    settings = fault_settings()
    trainer = Trainer(settings, 10_000 + seed, HORIZON)
    snapshots = _history(trainer, seed, out)
    for index, (name, fault) in enumerate(FAULTS.items()):
        path = out / f"fault-{seed}-{name.replace(' ', '_')}.npz"
        if path.exists():
            continue
        start = SNAPSHOTS[index % len(SNAPSHOTS)]
        trainer.load(snapshots[start])
        drawn = draw(fault, start, len(settings), zlib.crc32(f"{seed} {name}".encode()))
        hooks, recording = fault.make(drawn), Recording()
        for _ in range(fault.steps):
            recording.add(timed(trainer, hooks))
        recording.write(path, onset=drawn.onset + 1, lasts=drawn.lasts, start=np.array(start))
        print(f"faults {seed}: {name}", flush=True)


def _history(trainer: Trainer, seed: int, out: Path) -> dict[int, dict]:
    """Trained once, kept with its snapshots."""
    saved = out / f"history-{seed}.state.pt"
    if saved.exists():
        return torch.load(saved, weights_only=False)
    snapshots, recording = {}, Recording()
    for _ in range(SNAPSHOTS[-1] + 1500):
        if trainer.step in SNAPSHOTS:
            snapshots[trainer.step] = trainer.state()
        recording.add(timed(trainer, Hooks()))
    recording.write(out / f"history-{seed}.npz")
    torch.save(snapshots, saved)
    print(f"history {seed}", flush=True)
    return snapshots


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("healthy", "faults"))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "healthy":
        healthy(given.seed, given.steps, given.out)
    else:
        faults(given.seed, given.out)


if __name__ == "__main__":
    main()
