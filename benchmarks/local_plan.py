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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tenfold.config import Model, Train
from tenfold.experiments.local.calibration import calibrate
from tenfold.experiments.local.forecast import forecast_local
from tenfold.model import count_parameters

WARM_UP = 2
FEWEST, LONG_ENOUGH_S = 5, 4.0
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


def _of(
    depth: int, width: int, head: int, context: int, vocabulary: int, batch: int, threads: int, **more: Any
) -> Configuration:
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


def measure_here(configuration: Configuration) -> dict[str, Any]:
    """Seconds of each step and bytes of resident memory; for a process that has done nothing else."""
    import tenfold.campaign  # noqa: F401  as the trainer's process has
    from tenfold.experiments.local.calibration import Probe, ProbeShape
    from tenfold.experiments.local.recorder import micro_batches_of
    from tenfold.machine import peak_resident_bytes, resident_bytes
    from tenfold.train.learner import make_deterministic

    make_deterministic(configuration.threads)
    before = resident_bytes()
    sizes = tuple(micro_batches_of(configuration.sequences, configuration.micro_batch))
    shape = ProbeShape(configuration.model, configuration.vocabulary, sizes, configuration.train)
    probe = Probe(shape, configuration.threads)
    for _ in range(WARM_UP):
        probe.step()
    times = list(_timed(probe.step))
    return {"seconds": times, "before": before, "peak": peak_resident_bytes()}


def _timed(step: Callable[[], float]) -> Iterator[float]:
    began, count = time.monotonic(), 0
    while count < FEWEST or time.monotonic() - began < LONG_ENOUGH_S:
        yield step()
        count += 1


def measure(name: str, number: int) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--set", name, "--only", str(number)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class Row:
    """One configuration, forecast and measured."""

    number: int
    parameters: int
    threads: int
    step: float
    step_interval: tuple[float, float]
    measured_step: float
    fastest_step: float
    memory: float
    """Bytes added."""
    measured_memory: float
    total: float
    measured_total: float

    @property
    def errors(self) -> dict[str, float]:
        """(forecast - measured) / measured."""
        return {
            "step": self.step / self.measured_step - 1,
            "step against the fastest": self.step / self.fastest_step - 1,
            "memory added": self.memory / self.measured_memory - 1,
            "memory in all": self.total / self.measured_total - 1,
        }

    def line(self) -> str:
        """For people."""
        error = self.errors
        return (
            f"{self.number:>2}  {self.parameters / 1e6:>6.2f} M  {self.threads} thr  "
            f"step {self.step:>8.4f} s  measured {self.measured_step:>8.4f} s  {error['step']:>+6.1%}  "
            f"added {self.memory / 2**20:>7.1f} MiB  measured {self.measured_memory / 2**20:>7.1f} MiB  "
            f"{error['memory added']:>+6.1%}  in all {error['memory in all']:>+6.1%}"
        )


def forecast_and_measure(name: str, *, again: bool) -> Iterator[Row]:
    """Forecast all, then measure all, twice over."""
    threads = sorted({configuration.threads for configuration in SETS[name]})
    calibrations = {count: calibrate(count, again=again, say=print) for count in threads}
    for count, found in calibrations.items():
        print(
            f"calibration, {count} threads: {found.seconds:.0f} s, factor {found.factor:.3f}, "
            f"spread {found.spread:.1%}, others used {found.others:.0%} of the cores"
        )
    forecasts = [forecast_local(c.model, c.train, c.vocabulary, calibrations[c.threads]) for c in SETS[name]]
    rounds = [[measure(name, number) for number in range(len(SETS[name]))] for _ in range(ROUNDS)]
    for number, (configuration, forecast, *runs) in enumerate(zip(SETS[name], forecasts, *rounds, strict=True)):
        times = [seconds for run in runs for seconds in run["seconds"]]
        yield Row(
            number=number,
            parameters=count_parameters(configuration.model, configuration.vocabulary).total,
            threads=configuration.threads,
            step=forecast.seconds,
            step_interval=forecast.interval,
            measured_step=statistics.median(times),
            fastest_step=min(times),
            memory=forecast.memory.added,
            measured_memory=statistics.mean(run["peak"] - run["before"] for run in runs),
            total=forecast.memory.total,
            measured_total=statistics.mean(run["peak"] for run in runs),
        )


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Median and worst error of each quantity; how often the step lay in its 90% interval."""
    names = rows[0].errors
    sizes = {name: [abs(row.errors[name]) for row in rows] for name in names}
    inside = sum(row.step_interval[0] <= row.measured_step <= row.step_interval[1] for row in rows)
    return {name: {"median": statistics.median(each), "worst": max(each)} for name, each in sizes.items()} | {
        "steps inside their 90% interval": inside / len(rows)
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, default="held-out")
    parser.add_argument("--again", action="store_true", help="calibrate again even if a calibration is kept")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        print(json.dumps(measure_here(SETS[options.set][options.only])))
        return
    rows = list(forecast_and_measure(options.set, again=options.again))
    for row in rows:
        print(row.line())
    found = summary(rows)
    for name, value in found.items():
        print(
            f"{name}: "
            + (f"{value:.0%}" if isinstance(value, float) else "median {median:.1%}, worst {worst:.1%}".format(**value))
        )
    if options.json:
        options.json.write_text(json.dumps({"rows": [asdict(row) for row in rows], "summary": found}, indent=1))


if __name__ == "__main__":
    main()
