"""Step time and memory of 12 configurations on this machine: forecast, then measured.

    python benchmarks/local_plan.py [--set held-out|tuning] [--again] [--json FILE]

Every configuration is measured in a process of its own: the model, optimizer and step of the trainer on random tokens,
the median of the steps after warm-up (the trainer's own figure is such a median too), and the most resident memory
above what the process had before the model was built. The forecast knows only the machine's calibration, whose small
training steps have none of these shapes. While the method was made only the set called tuning was looked at.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenfold.config import Model, Train

WARM_UP = 2
FEWEST, LONGEST_S = 5, 12.0
ROUNDS = 2


@dataclass(frozen=True)
class Configuration:
    """One training step: model, vocabulary, batch in sequences, threads."""

    model: Model
    vocabulary: int
    sequences: int
    threads: int
    micro_batch: int | None = None
    optimizer: str = "muon"

    @property
    def train(self) -> Train:
        """[train] of a campaign that trains so."""
        return Train.model_validate(
            {
                "batch_tokens": self.sequences * self.model.context,
                "micro_batch": self.micro_batch,
                "threads": self.threads,
                "compile": "off",
                "precision": "float32",
                "optimizer": {"kind": self.optimizer},
            }
        )


def _of(depth: int, width: int, head: int, context: int, vocabulary: int, batch: int, threads: int, **more: Any) -> Any:
    about_step = {key: more.pop(key) for key in ("micro_batch", "optimizer") if key in more}
    values = {"depth": depth, "width": width, "head_dim": head, "context": context, **more}
    return Configuration(Model.model_validate(values), vocabulary, batch // context, threads, **about_step)


TUNING = (
    _of(3, 96, 32, 128, 1024, 2048, 1),
    _of(4, 128, 32, 256, 4096, 4096, 1),
    _of(6, 192, 32, 256, 4096, 8192, 2),
    _of(8, 256, 64, 512, 8192, 4096, 2),
    _of(2, 64, 16, 64, 2048, 1024, 1),
    _of(5, 160, 32, 384, 2048, 6144, 1, micro_batch=4),
    _of(10, 320, 32, 256, 8192, 2048, 2, optimizer="adamw"),
    _of(4, 256, 32, 1024, 4096, 4096, 1, kv_heads=2),
    _of(12, 128, 16, 128, 1024, 4096, 2, optimizer="adamw"),
    _of(3, 384, 64, 256, 8192, 4096, 1, tied_embeddings=True, micro_batch=8),
    _of(6, 144, 16, 192, 3000, 3072, 2, mlp="gelu"),
    _of(2, 448, 64, 128, 12000, 2048, 1),
)
HELD_OUT = (
    _of(4, 80, 16, 128, 1500, 4096, 1),
    _of(2, 128, 32, 512, 512, 2048, 2),
    _of(6, 224, 32, 256, 4096, 4096, 2),
    _of(9, 288, 32, 256, 8192, 8192, 2, micro_batch=8),
    _of(3, 192, 64, 768, 2048, 6144, 1),
    _of(8, 96, 32, 64, 4096, 2048, 1, optimizer="adamw"),
    _of(5, 256, 32, 256, 6000, 3072, 1, micro_batch=4, kv_heads=4),
    _of(10, 352, 32, 128, 7000, 2048, 2),
    _of(2, 64, 16, 256, 2048, 8192, 2),
    _of(7, 160, 32, 320, 3000, 2560, 1, micro_batch=2, mlp="gelu"),
    _of(4, 320, 64, 512, 10000, 4096, 2, optimizer="adamw", tied_embeddings=True),
    _of(12, 192, 32, 128, 1024, 1024, 1),
)
SETS = {"tuning": TUNING, "held-out": HELD_OUT}


def measure_here(configuration: Configuration) -> dict[str, float]:
    """Seconds of a step and bytes of resident memory; for a process that has done nothing else."""
    from tenfold.machine.memory import peak_resident_bytes, resident_bytes
    from tenfold.planner.local.probes import Probe, Shape
    from tenfold.train.learner import make_deterministic

    make_deterministic(configuration.threads)
    before = resident_bytes()
    size = configuration.micro_batch or configuration.sequences
    whole, rest = divmod(configuration.sequences, size)
    micro_batches = (size,) * whole + ((rest,) if rest else ())
    probe = Probe(
        Shape(configuration.model, configuration.vocabulary, micro_batches, configuration.train), configuration.threads
    )
    for _ in range(WARM_UP):
        probe.step()
    times = list(_timed(probe.step))
    return {
        "seconds": statistics.median(times),
        "fastest": min(times),
        "before": before,
        "peak": peak_resident_bytes(),
    }


def _timed(step: Any) -> Iterator[float]:
    began, count = time.monotonic(), 0
    while count < FEWEST or time.monotonic() - began < LONGEST_S / 2:
        yield step()
        count += 1
        if time.monotonic() - began > LONGEST_S and count >= 3:
            return


def measure(name: str, number: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--set", name, "--only", str(number)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, default="held-out")
    parser.add_argument("--again", action="store_true", help="calibrate again even if a calibration is kept")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        print(json.dumps(measure_here(SETS[options.set][options.only])))
        return


if __name__ == "__main__":
    main()
