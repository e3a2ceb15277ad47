"""Published reliability, simulated against reported; and how long a simulation of ten million devices takes.

    python benchmarks/fleet.py [--replicas 100] [--json FILE] [--no-speed]

The column `basis` says what each figure stands on:
 - own rates: the failure counts are this run's own, so the count only checks the arithmetic; goodput is predicted from
   recovery times that others published;
 - predicted: failure rates and recovery times are those of other fleets;
 - fitted: a setting was chosen so that this figure comes out; it is no evidence, what follows from it is.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from scipy.optimize import brentq

from tenfold.planner.fleet.choose import first_interval
from tenfold.planner.fleet.curves import FleetCurves, goodput_curves
from tenfold.planner.fleet.result import FleetResult, Interval
from tenfold.planner.fleet.run import CheckpointPolicy, FleetRun, Mode, Recovery, causes_of, timings
from tenfold.planner.fleet.simulate import simulate_fleet

HOUR, DAY, MINUTE = 3600.0, 86400.0, 60.0
LLAMA_STORAGE = 2e12
"""Bytes/s sustained: Llama 3 Herd, section 3.3.1."""
YEAR_DEVICES = 1_200_000
SLICE = 200
"""Chips that leave together in the Decoupled DiLoCo runs; not published. Only slice * time away matters."""
LARGE = 10_000_000
SPEED_MODES = ("synchronous", "elastic", "semi-synchronous", "semi-synchronous, corruption spreads")


@dataclass(frozen=True)
class Row:
    """One published figure and ours."""

    run: str
    quantity: str
    reported: str
    simulated: float
    low: float
    high: float
    basis: str


def measured(name: str) -> float:
    """Value of a shipped timing."""
    return timings()[name].value


def row(run: str, quantity: str, reported: str, value: Interval, basis: str, factor: float = 1.0) -> Row:
    """A row from an interval over replicas."""
    return Row(run, quantity, reported, value.mean * factor, value.low * factor, value.high * factor, basis)


def count_row(run: str, quantity: str, reported: str, job: FleetRun, replicas: int, basis: str) -> Row:
    """Interruptions of a job."""
    return row(run, quantity, reported, simulate_fleet(job, replicas).failures, basis)


def mttf_row(run: str, quantity: str, reported: str, job: FleetRun, replicas: int, basis: str) -> Row:
    """Hours of the run for each failure."""
    result = simulate_fleet(job, replicas)
    hours = job.days * 24
    low, high = (hours / max(1.0, count) for count in (result.failures.high, result.failures.low))
    return Row(run, quantity, reported, result.mttf_hours, low, high, basis)


def tuned(job: FleetRun) -> FleetRun:
    """The job with Daly's checkpoint interval."""
    return replace(job, checkpoint=replace(job.checkpoint, interval_s=first_interval(job)))


def llama(replicas: int) -> Iterator[Row]:
    """Llama 3 405B: 16,384 H100 for 54 days."""
    name = "Llama 3, 16,384 H100, 54 days"
    write = measured("checkpoint-bytes-llama3-405b") / LLAMA_STORAGE
    job = FleetRun(16_384, CheckpointPolicy(write, write, write), causes_of("llama3-h100"), days=54)
    quick = Recovery(measured("detect-explicit"), measured("restart-100k"), spares=20)
    slow = Recovery(measured("detect-and-diagnose"), measured("restart-to-training"), spares=20)
    result = simulate_fleet(tuned(replace(job, recovery=quick)), replicas)
    limit = simulate_fleet(tuned(replace(job, recovery=slow)), replicas)
    yield row(name, "interruptions", "466", result.failures, "own rates")
    yield row(name, "goodput %, found in 1 min, restarted in 10", ">90", result.goodput, "predicted", 100)
    yield row(name, "goodput %, MegaScale's limits of 10 and 15 min", ">90", limit.goodput, "predicted", 100)
    for profile in ("rsc1-a100", "rsc2-a100", "meta-h100-100k", "meta-h100-32k"):
        other = replace(job, causes=causes_of(profile))
        yield count_row(name, f"unexpected interruptions, rates of {profile}", "419", other, replicas, "predicted")


def rsc(replicas: int) -> Iterator[Row]:
    """Meta's research clusters: the law 1 / (nodes * rate) against observed jobs, and effective training time."""
    checkpoint = CheckpointPolicy(HOUR, measured("checkpoint-stall-bloom"))
    recovery = Recovery(measured("detect-and-diagnose"), measured("restart-100k"), spares=20)
    job = FleetRun(1024, checkpoint, causes_of("rsc1-a100"), days=330, recovery=recovery)
    for devices, reported in ((8, "1145 observed"), (1024, "7.9 observed"), (16_384, "1.8 law"), (131_072, "0.23 law")):
        sized = replace(job, devices=devices, days=330 if devices < 10_000 else 30)
        yield mttf_row("Meta RSC-1", f"hours to failure, {devices:,} GPUs", reported, sized, replicas, "predicted")
    for devices in (2048, 4096):
        for profile in ("rsc1-a100", "rsc-jobs-a100"):
            sized = replace(job, devices=devices, days=30, causes=causes_of(profile))
            formula = 100 * rsc_formula(sized)
            quantity = f"goodput %, {devices:,} GPUs, {profile}; their formula {formula:.1f}"
            yield row("Meta RSC", quantity, "~90", simulate_fleet(sized, replicas).goodput, "predicted", 100)


def rsc_formula(job: FleetRun) -> float:
    """E[ETTR] of Kokolis et al. (2025)."""
    checkpoint, recovery = job.checkpoint, job.recovery
    overhead = recovery.detect_s + recovery.restart_s + checkpoint.interval_s / 2
    return (1 - job.failures_per_s() * overhead) / (1 + checkpoint.stall_s / checkpoint.interval_s)


def byterobust(replicas: int) -> Iterator[Row]:
    """ByteRobust: a checkpoint every step, warm standbys."""
    name = "ByteRobust, 9,600 GPUs, 90 days"
    step, overhead = 10.0, measured("checkpoint-every-step-overhead")
    restart = measured("restart-to-training") / measured("warm-standby-speed-up")
    recovery = Recovery(measured("detect-explicit") + measured("localise"), restart, spares=8)
    job = FleetRun(9600, CheckpointPolicy(step, step * overhead), causes_of("llama3-h100"), days=90, recovery=recovery)
    yield row(name, "goodput %, rates of llama3-h100", "97", simulate_fleet(job, replicas).goodput, "predicted", 100)
    for profile in ("llama3-h100", "rsc1-a100", "rsc-jobs-a100"):
        small = replace(job, devices=1000, days=10, causes=causes_of(profile))
        quantity = f"restarts, rates of {profile}"
        yield count_row("ByteRobust, 1,000 GPUs, 10 days", quantity, "28", small, replicas, "predicted")


def opt(replicas: int) -> Iterator[Row]:
    """OPT-175B: 992 A100 for two months, by hand at first."""
    name = "OPT-175B, 992 A100, 62 days"
    recovery = Recovery(measured("detect-hang"), measured("restart-to-training"), spares=12)
    checkpoint = CheckpointPolicy(measured("checkpoint-interval-bloom"), measured("checkpoint-stall-bloom"))
    job = FleetRun(992, checkpoint, causes_of("opt-a100"), days=62, recovery=recovery)
    own = simulate_fleet(job, replicas)
    yield row(name, "host failures", ">100 cycled", own.failures, "own rates")
    yield row(name, "effective days", "33 at 1,024 GPUs", own.effective_days, "predicted")
    for profile in ("rsc1-a100", "rsc-jobs-a100"):
        other = replace(job, causes=causes_of(profile))
        yield count_row(name, f"restarts, rates of {profile}", ">105", other, replicas, "predicted")


def hybrid(replicas: int) -> Iterator[Row]:
    """Meta at 100,000 GPUs: synchronous against replicas as units of failure (FT-HSDP)."""
    name = "Meta FT-HSDP, 98,304 H100"
    write = measured("checkpoint-bytes-llama3-405b") / LLAMA_STORAGE
    whole = Recovery(0.0, measured("restart-100k"), spares=200)
    stall = measured("stall-fault-tolerant-hsdp")
    elastic = Recovery(0.0, measured("restart-100k"), reconfigure_s=stall, rejoin_s=0.0, spares=200)
    causes = tuple(cause for cause in causes_of("meta-h100-100k") if not cause.silent)
    job = FleetRun(98_304, CheckpointPolicy(write, write, write), causes, days=14, recovery=whole)
    replica = replace(job, mode="elastic", replica_devices=4096, recovery=elastic)
    yield row(name, "goodput %, synchronous", "44", simulate_fleet(tuned(job), replicas).goodput, "predicted", 100)
    yield row(name, "goodput %, elastic", "80", simulate_fleet(tuned(replica), replicas).goodput, "predicted", 100)


@dataclass(frozen=True)
class YearRun:
    """The fleet of Decoupled DiLoCo's simulations: every chip interrupted once a year, only while it trains."""

    stall_s: float
    away_s: float
    restart_s: float = 0.0

    def goodput(self, devices: int, learners: int, *, elastic: bool, replicas: int = 4) -> FleetResult:
        """`learners` of 1 is data-parallel training."""
        mode: Mode = "semi-synchronous" if learners > 1 else "elastic" if elastic else "synchronous"
        restart = self.away_s if elastic else self.restart_s
        recovery = Recovery(0.0, restart, reconfigure_s=self.stall_s, rejoin_s=0.0)
        job = FleetRun(
            devices,
            CheckpointPolicy(DAY if elastic else 1.0),
            causes_of("one-a-year"),
            node_devices=1,
            days=4,
            mode=mode,
            learners=learners,
            learner_elastic=elastic,
            replica_devices=SLICE,
            recovery=recovery,
            merge_share=0.0,
            fails_while_stopped=False,
        )
        return simulate_fleet(job, replicas)


def fitted_year() -> YearRun:
    """Stall and time away from two of the published figures, restart of plain data-parallel from a third."""
    run = YearRun(15.0, HOUR)
    for _ in range(4):
        stall = brentq(
            lambda x, run=run: replace(run, stall_s=x).goodput(YEAR_DEVICES, 1, elastic=True).goodput.mean - 0.58,
            0.1,
            200.0,
            xtol=0.01,
        )
        run = replace(run, stall_s=float(stall))
        away = brentq(
            lambda x, run=run: replace(run, away_s=x).goodput(YEAR_DEVICES, 16, elastic=True).goodput.mean - 0.93,
            1.0,
            DAY,
            xtol=1.0,
        )
        run = replace(run, away_s=float(away))
    restart = brentq(
        lambda x: replace(run, restart_s=x).goodput(YEAR_DEVICES, 1, elastic=False).goodput.mean - 0.27, 1.0, 1000.0
    )
    return replace(run, restart_s=float(restart))


def diloco(replicas: int) -> Iterator[Row]:
    """Decoupled DiLoCo: three settings fitted, six figures follow."""
    run = fitted_year()
    settings = f"stall {run.stall_s:.0f} s, away {run.away_s / MINUTE:.0f} min, restart {run.restart_s:.0f} s"
    name = f"Decoupled DiLoCo ({settings})"
    published = (
        (YEAR_DEVICES, 1, False, "27", "fitted"),
        (2 * YEAR_DEVICES, 1, False, "18", "follows"),
        (YEAR_DEVICES, 1, True, "58", "fitted"),
        (2 * YEAR_DEVICES, 1, True, "40", "follows"),
        (YEAR_DEVICES, 2, True, "70", "follows"),
        (YEAR_DEVICES, 8, True, "88", "follows"),
        (2 * YEAR_DEVICES, 8, True, "80", "follows"),
        (YEAR_DEVICES, 16, True, "93", "fitted"),
        (2 * YEAR_DEVICES, 16, True, "86", "follows"),
    )
    for devices, learners, elastic, reported, basis in published:
        kind = f"{learners} learners" if learners > 1 else "elastic data-parallel" if elastic else "data-parallel"
        goodput = run.goodput(devices, learners, elastic=elastic, replicas=min(replicas, 20)).goodput
        yield row(name, f"goodput %, {devices / 1e6:g} M chips, {kind}", reported, goodput, basis, 100)


def sizes(replicas: int) -> FleetCurves:
    """Goodput from 8,192 to 8.4 million devices: rates of Llama 3, recovery as published, learners of 8,192 devices."""
    write = measured("checkpoint-bytes-llama3-405b") / LLAMA_STORAGE
    stall = measured("stall-fault-tolerant-hsdp")
    recovery = Recovery(
        measured("detect-explicit"), measured("restart-100k"), reconfigure_s=stall, rejoin_s=0.0, spares=20
    )
    job = FleetRun(
        16_384,
        CheckpointPolicy(write, write, write),
        causes_of("llama3-h100"),
        replica_devices=1024,
        recovery=recovery,
        merge_share=0.02,
        corruption_contained=True,
    )
    return goodput_curves(job, [8192 * 2**k for k in range(0, 11)], learner_devices=8192, replicas=min(replicas, 20))


def large(mode: str) -> FleetRun:
    """Ten million devices for 90 days."""
    causes, checkpoint = causes_of("llama3-h100"), CheckpointPolicy(1800.0, 3.0, 60.0)
    job = FleetRun(LARGE, checkpoint, causes, days=90, recovery=Recovery(spares=20_000))
    if mode == "synchronous":
        return job
    if mode == "elastic":
        return replace(job, mode="elastic", replica_devices=8000)
    spreads = mode.endswith("spreads")
    return replace(job, mode="semi-synchronous", learners=1000, quorum=500, corruption_contained=not spreads)


def speed(mode: str, replicas: int) -> None:
    """Time and peak memory of one simulation, in a process of its own."""
    start = time.perf_counter()
    result = simulate_fleet(large(mode), replicas)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"mode": mode, "seconds": seconds, "peak_gib": peak, "goodput": asdict(result.goodput)}))


def speeds(replicas: int) -> Iterator[dict[str, object]]:
    """Each mode in its own process."""
    for mode in SPEED_MODES:
        command = [sys.executable, __file__, "--speed", mode, "--replicas", str(replicas)]
        yield json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def show(found: Row) -> None:
    """One line."""
    value, low, high = (f"{x:,.0f}" if x >= 1000 else f"{x:.3g}" for x in (found.simulated, found.low, found.high))
    simulated = f"{value} ({low} to {high})"
    print(f"{found.quantity:<66} {found.reported:>18} {simulated:>26}  {found.basis}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--replicas", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--speed", choices=SPEED_MODES, help="time one mode only")
    arguments = parser.parse_args()
    if arguments.speed:
        speed(arguments.speed, arguments.replicas)
        return
    rows: list[Row] = []
    for source in (llama, rsc, byterobust, opt, hybrid, diloco):
        for number, found in enumerate(source(arguments.replicas)):
            if not number:
                print(f"\n{found.run}\n{'':<66} {'reported':>18} {'simulated':>26}  basis")
            show(found)
            rows.append(found)
    curves = sizes(arguments.replicas)
    print("\nGoodput by size of the fleet", *curves.lines(), sep="\n")
    timed = [] if arguments.no_speed else list(speeds(arguments.replicas))
    for entry in timed:
        print(f"{LARGE:,} devices, 90 days, {arguments.replicas} replicas: {entry}")
    if arguments.json:
        found = {"rows": [asdict(r) for r in rows], "curves": curves.to_dict(), "speed": timed}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
