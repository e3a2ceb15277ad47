"""Speed of the search over layouts, and what it says of a run that others have made.

    python benchmarks/plan_search.py [--rows measured_runs.csv]

1. Layouts a second: memory and step time of every layout of Llama 3.1 405B on 16,384 H100, all of them evaluated.
2. The search itself, which computes the time only where something fits in memory, and its five fastest.
3. The layouts that Meta used (arXiv 2407.21783, table 4) as we forecast them, beside what Meta measured.
4. How far to trust the order, and what would be worth relaxing.
5. With --rows: how far forecasts of one shape, machine and batch differ in their errors, and whether regret drawn from
   that is the regret there was.

One core is used. For comparison, Calculon publishes 266 evaluations a second and core (not measured here).
"""

import argparse
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tenfold.planner.calibration.arrays import MeasuredRuns, measured_runs
from tenfold.planner.calibration.calibrated import shipped_calibration
from tenfold.planner.calibration.runs import MeasuredRun, read_runs
from tenfold.planner.cost.layout import Array, Layout, Shape
from tenfold.planner.cost.memory import total_bytes
from tenfold.planner.cost.step import total_seconds
from tenfold.planner.hardware.load import example_cluster, example_text, parse_cluster
from tenfold.planner.search.explain import describe
from tenfold.planner.search.grid import Grid, grids
from tenfold.planner.search.layouts import Choice, assess, search_layouts
from tenfold.planner.search.question import LayoutQuestion, constants_of, device_of
from tenfold.planner.search.regret import draw_errors, regret
from tenfold.planner.search.sensitivity import effect_line, sensitivity

LLAMA = Shape(126.0, 16384.0, 128.0, 8.0, 128.0, 53248.0, 3.0, 128256.0, 8192.0)
CLUSTER = example_cluster("llama3-16k")
QUESTION = LayoutQuestion(LLAMA, CLUSTER, 2048)
LONG = LayoutQuestion(replace(LLAMA, context=131072.0), CLUSTER, 128)
HALF = parse_cluster(example_text("llama3-16k").replace("devices = 16384", "devices = 8192"), "half of llama3-16k")
FEWER = replace(QUESTION, cluster=HALF)
META = {
    "8,192 GPUs, sequences of 8,192": (FEWER, 64.0, 1.0, 0.43),
    "16,384 GPUs, sequences of 8,192": (QUESTION, 128.0, 1.0, 0.41),
    "16,384 GPUs, sequences of 131,072": (LONG, 8.0, 16.0, 0.38),
}
"""Question, data- and context-parallel degree, and published BF16 MFU; tensor 8 and pipeline 16 in all of them."""
NEAR = 1.5
"""Runs count as fast within this factor of the fastest of their shape, machine and batch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path)
    arguments = parser.parse_args()
    print(f"numpy {np.__version__}, {os.cpu_count()} cores of which one is used, load {os.getloadavg()[0]:.1f}")
    print_speed()
    print_search()
    print_meta()
    print_trust()
    if arguments.rows:
        print_spreads(arguments.rows)


def fastest(call: Callable[[], object], seconds: float = 3.0) -> float:
    """Least wall-clock seconds of repeated calls: others share the machine."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def print_speed() -> None:
    every = list(grids(QUESTION, Counter()))
    layouts = sum(int(np.count_nonzero(grid.allowed)) for grid in every)
    device, constants = device_of(QUESTION), constants_of(QUESTION, shipped_calibration())
    memory = shipped_calibration().memory_constants(QUESTION.framework)

    def evaluate() -> None:
        for grid in every:
            total_bytes(LLAMA, grid.layout, memory)
            total_seconds(LLAMA, grid.layout, device, constants)

    def one_by_one() -> None:
        for base in range(20):
            layout = every[0].one(base % every[0].allowed.shape[0], 0)
            total_bytes(LLAMA, layout, memory)
            total_seconds(LLAMA, layout, device, constants)

    flat = _flat(every)

    def as_columns() -> None:
        for layout in flat:
            total_bytes(LLAMA, layout, memory)
            total_seconds(LLAMA, layout, device, constants)

    print(f"\n1. memory and step time of each of {layouts:,} layouts, one core")
    for name, call, count in (("as grids", evaluate, layouts), ("as columns", as_columns, layouts)):
        seconds = fastest(call)
        print(f"   {name:12} {seconds:.3f} s = {count / seconds:,.0f} layouts/s")
    seconds = fastest(one_by_one)
    print(f"   {'one by one':12} {20 / seconds:,.0f} layouts/s (Calculon publishes 266 a core)")


def _flat(every: Sequence[Grid]) -> list[Layout]:
    """The same layouts with an entry of their own in every field, in blocks that stay in cache."""
    layouts = []
    for grid in every:
        values = {
            name: np.broadcast_to(value, grid.allowed.shape)[grid.allowed] for name, value in vars(grid.layout).items()
        }
        layouts.append(Layout(**values))
    return layouts


def print_search() -> None:
    for top, question in (
        ("405B, 16,384 H100", QUESTION),
        ("the same, whatever framework, zero-bubble too", replace(QUESTION, framework="")),
    ):
        found = search_layouts(question, shipped_calibration(), top=5)
        seconds = fastest(partial(search_layouts, question, shipped_calibration(), top=5))
        rate = found.searched / seconds
        print(f"\n2. search, {top}: {seconds:.3f} s from question to answer")
        print(f"   memory of {found.searched:,} layouts computed, {found.feasible:,} fit; {rate:,.0f}/s")
        print(f"   left out: {', '.join(f'{why} {count:,}' for why, count in found.refused.items())}")
        for choice in found.best:
            print(f"   {_figures(choice)}  {describe(choice.layout)}")


def _figures(choice: Choice) -> str:
    return (
        f"{choice.seconds:6.2f} s ({choice.low:.2f} to {choice.high:.2f}), MFU {choice.mfu:.1%}, "
        f"{choice.memory.total / 1e9:5.1f} GB, fits {choice.chance_to_fit:.0%}"
    )


def print_meta() -> None:
    print("\n3. what Meta ran: tensor 8, pipeline 16, micro-batches of 1; how far it interleaved is not published")
    for name, (question, data, context, published) in META.items():
        found = search_layouts(question, shipped_calibration(), top=1)
        print(f"   {name}: MFU {published:.0%} measured; fastest that fits {found.best[0].mfu:.1%}")
        for chunks in (1.0, 2.0, 4.0, 8.0):
            layout = Layout(
                8.0, 16.0, data, 1.0, question.sequences / data, context=context, interleaving=chunks, sharding=1.0
            )
            choice = assess(question, layout, shipped_calibration())
            faster = int(np.searchsorted(found.seconds, choice.seconds))
            ends = f"{choice.mfu * choice.seconds / choice.high:.1%} to {choice.mfu * choice.seconds / choice.low:.1%}"
            print(
                f"     interleaved {chunks:g}: MFU {choice.mfu:.1%} ({ends}), {choice.memory.total / 1e9:.0f} GB; "
                f"of {len(found.seconds):,} that fit, {faster} are faster"
            )


def print_trust() -> None:
    found = search_layouts(QUESTION, shipped_calibration(), top=10)
    told = regret(found)
    print(f"\n4. the first is the fastest with a chance of {told.chances[0]:.0%}; untried it costs {told.first:.1%}")
    print(f"   after trying the first 1, 2...: {', '.join(f'{each:.1%}' for each in told.after)}")
    print(f"   {told.tries} to try for 1%")
    for lever in sensitivity(QUESTION, shipped_calibration()):
        print(f"   {effect_line(lever.better):55} {effect_line(lever.worse)}")


def print_spreads(path: Path) -> None:
    known = measured_runs(read_runs(path)[0])
    forecast = known.model(shipped_calibration().time.constants(known.levels))
    groups = defaultdict(list)
    for number, (run, family) in enumerate(zip(known.runs, known.families, strict=True)):
        groups[family, *_key(run)].append(number)
    print("\n5. errors within one shape, machine and batch (forecasts by the shipped calibration, which saw the rows)")
    for family in dict.fromkeys(known.families):
        several = [np.array(group) for key, group in groups.items() if key[0] == family and len(group) > 3]
        if several:
            _print_family(family, several, known, forecast)


def _key(run: MeasuredRun) -> tuple[object, ...]:
    batch = float(run.layout.sequences)
    return run.shape_key, float(run.shape.context), run.hardware, run.devices, run.precision, batch


def _print_family(family: str, groups: list[Array], known: MeasuredRuns, forecast: Array) -> None:
    error = np.log(forecast / known.seconds)
    inside = np.sqrt(sum(np.var(error[g]) * len(g) for g in groups) / sum(len(g) - 1 for g in groups))
    print(f"   {family}: {sum(map(len, groups))} runs in {len(groups)} groups, spread {inside:.3f}")
    for what, names in _DIFFERENT.items():
        pairs = list(_pairs(groups, known, names))
        if len(pairs) > 20:
            half = np.mean([(error[one] - error[other]) ** 2 for one, other in pairs]) / 2
            print(f"     differ in {what}, both fast: {np.sqrt(half):.3f} ({len(pairs)} pairs)")
    drawn, seen = zip(*(_regrets(group, known, forecast) for group in groups), strict=True)
    print(f"     regret of the first, second... try: drawn {_percents(drawn)}; seen {_percents(seen)}")


def _percents(regrets: tuple[Array, ...]) -> str:
    return ", ".join(f"{each:.1%}" for each in np.mean(regrets, axis=0))


_DIFFERENT = {
    "pipeline": {"pipeline"},
    "micro-batch": {"micro_batch"},
    "tensor": {"tensor"},
    "tensor, pipeline and micro-batch": {"tensor", "pipeline", "micro_batch"},
}
_FREE = (
    "tensor",
    "pipeline",
    "micro_batch",
    "recomputation",
    "sharding",
    "context",
    "expert",
    "interleaving",
    "release",
)


def _field(run: MeasuredRun, name: str) -> object:
    return run.release if name == "release" else getattr(run.layout, name)


def _pairs(groups: list[Array], known: MeasuredRuns, names: set[str]) -> Iterator[tuple[int, int]]:
    """Two runs of one group, both fast, that differ in just this."""
    for group in groups:
        fast = group[known.seconds[group] < NEAR * np.min(known.seconds[group])]
        for place, one in enumerate(fast):
            for other in fast[:place]:
                runs = known.runs[one], known.runs[other]
                if {name for name in _FREE if _field(runs[0], name) != _field(runs[1], name)} == names:
                    yield int(one), int(other)


def _regrets(group: Array, known: MeasuredRuns, forecast: Array) -> tuple[Array, Array]:
    """Of the first one to four tries: as drawn, and as it was."""
    order = group[np.argsort(forecast[group])]
    tensor, micro = (np.array([_field(known.runs[each], name) for each in order]) for name in ("tensor", "micro_batch"))
    true = forecast[order] * np.exp(draw_errors(tensor, micro, 500, np.random.default_rng(0)))
    drawn = np.mean(np.minimum.accumulate(true, axis=1) / np.min(true, axis=1, keepdims=True), axis=0) - 1
    seen = np.minimum.accumulate(known.seconds[order]) / np.min(known.seconds[order]) - 1
    return drawn[:4], seen[:4]


if __name__ == "__main__":
    main()
