"""The page of `tenfold watch` beside TensorBoard on the same data, and what of its spikes a reader sees.

    python benchmarks/watch_page.py --tensorboard PYTHON [--points 100000] [--loads 5] [--live 30]

PYTHON is the interpreter of a virtual environment with tensorboard. Both servers have read everything before the first
load; each load is a new browser context, without a cache, alternating between the two. Bytes are counted on the wire,
by a proxy between browser and server. "First picture" is the moment at which the first chart has its line and axes.

Spikes: 200 of one step in the loss. One is visible when its pixel column reaches as high as drawing all points would.
Beside it a random sample of 1,500 points of the range looked at, and 100 bins of which lowest and highest are kept, as
trackio 0.43 has them (trackio/utils.py).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.monitor.page.browser import Wire, chromium
from tests.monitor.page.ledgers import description, forecast, loss_at
from tests.monitor.page.serving import served

from tenfold.ledger import Ledger
from tenfold.monitor.page.decimate import thin

NAMES = (
    *(f"train/{name}" for name in ("loss", "bits_per_byte", "grad_norm", "learning_rate", "tokens_per_second", "mfu")),
    *(f"train/{name}" for name in ("overhead", "peak_memory", "update_norm")),
    *(f"numerics/{name}" for name in ("non_finite", "underflow_share", "saturation_share")),
    *(f"data/{name}" for name in ("document_length", "repetition", "odd_share", "novelty", "mismatch")),
    *("process/memory", "disk/free", "source/web/share"),
)
SPIKES, COLUMNS, SAMPLE, BINS = 200, 1214, 1500, 100
ZOOMS = (1, 4, 16, 64, 256)
CHUNK = 5000
VIEWPORT = {"width": 1280, "height": 900}
TALL = {"width": 1280, "height": 6000}  # every chart in sight
OURS = "() => document.querySelector('.loss .plot[data-drawn]')"
THEIRS = """() => [...document.querySelectorAll('line-chart')].some((chart) =>
    chart.querySelector('canvas, path') && chart.querySelector('line-chart-axis text, .axis text, .minor, .major'))"""
TO_EVENTS = """
import sys, numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
file, folder, *names = sys.argv[1:]
values = np.load(file)
writer = EventFileWriter(folder, max_queue_size=1000)
for step in range(values.shape[1]):
    each = [Summary.Value(tag=name, simple_value=float(value)) for name, value in zip(names, values[:, step])]
    writer.add_event(Event(step=step + 1, wall_time=1.7e9 + step, summary=Summary(value=each)))
writer.close()
"""


@dataclass(frozen=True)
class Load:
    """One load of a page."""

    milliseconds: float
    first_bytes: int
    """To the first picture."""
    all_bytes: int
    """Once the page is quiet."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tensorboard", metavar="PYTHON")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--live", type=float, default=30.0, help="seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        values, spikes = made(options.points)
        campaign = Path(folder) / "campaign"
        begun = time.monotonic()
        run = write(campaign, values)
        print(
            f"{options.points:,} points × {len(NAMES)} series written in {time.monotonic() - begun:.1f} s", flush=True
        )
        with served([campaign]) as url:
            read = wait_until_read(url, run)
            print(f"read by the server in {read:.1f} s after it said its address", flush=True)
            compare(url, values, Path(folder), options)
            with chromium() as browser:
                every = one_load(browser, url, OURS, TALL)
            print(f"with every chart drawn: {every.all_bytes / 1000:,.1f} kB", flush=True)
            recall(url, run, values[0], spikes)
            live(url, campaign, run, options.points, options.live)


def made(points: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(series, points) of noise around slow trends, and the steps (from 0) at which the loss has a spike."""
    noise = np.random.default_rng(0)
    trend = np.cumsum(noise.standard_normal((len(NAMES), points)), axis=1) / points**0.5
    values = 1 + 0.3 * trend + 0.05 * noise.standard_normal((len(NAMES), points))
    values[0] = [loss_at(step, points) for step in range(1, points + 1)] + 0.05 * noise.standard_normal(points)
    spikes = np.sort(noise.choice(np.arange(points // 20, points), SPIKES, replace=False))
    values[0, spikes] += 0.6 + noise.random(SPIKES)
    return values, spikes


def write(campaign: Path, values: np.ndarray[Any, Any]) -> int:
    """The ledger of a run with these values."""
    campaign.mkdir()
    ledger, points = Ledger(campaign / "ledger.sqlite"), values.shape[1]
    about = description("many points", 2 * points)
    forecast(ledger, 2 * points, about)
    run = ledger.start_run("train", "many", about)
    for begin in range(0, points, CHUNK):
        block = values[:, begin : begin + CHUNK].T.tolist()
        ledger.log(run, {begin + n + 1: dict(zip(NAMES, row, strict=True)) for n, row in enumerate(block)})
    ledger.close()
    return run


def wait_until_read(url: str, run: int) -> float:
    """Seconds until the server has every curve in memory."""
    begun, words = time.monotonic(), "&".join(f"name={name}" for name in NAMES)
    urllib.request.urlopen(f"{url}api/curves?run=0.{run}&columns=10&{words}").read()
    return time.monotonic() - begun


# Loads


def compare(url: str, values: np.ndarray[Any, Any], folder: Path, options: argparse.Namespace) -> None:
    """Print bytes and time to the first picture of both, and their ratio."""
    pages: dict[str, tuple[str, str]] = {"tenfold": (url, OURS)}
    if options.tensorboard is None:
        show(measured(pages, options.loads))
        return
    with tensorboard(options.tensorboard, values, folder) as theirs:
        show(measured(pages | {"tensorboard": (theirs, THEIRS)}, options.loads))


@contextmanager
def tensorboard(python: str, values: np.ndarray[Any, Any], folder: Path) -> Iterator[str]:
    """TensorBoard on the same values, once it has read them all."""
    np.save(folder / "values.npy", values)
    subprocess.run([python, "-c", TO_EVENTS, folder / "values.npy", folder / "events", *NAMES], check=True)
    command = [str(Path(python).parent / "tensorboard"), "--logdir", str(folder / "events"), "--port", "0", "--host"]
    with subprocess.Popen([*command, "127.0.0.1"], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "http://" in line)
            threading.Thread(target=process.stderr.read, daemon=True).start()
            address = "http://" + line.split("http://")[1].split()[0]
            while last_step(address) < values.shape[1]:
                time.sleep(1)
            yield address
        finally:
            process.terminate()


def last_step(address: str) -> int:
    """Of the last series that TensorBoard has read; 0 before it has."""
    try:
        with urllib.request.urlopen(f"{address}data/plugin/scalars/scalars?run=.&tag={NAMES[-1]}") as answer:
            return int(json.load(answer)[-1][1])
    except (OSError, ValueError, IndexError):
        return 0


def measured(pages: dict[str, tuple[str, str]], loads: int) -> dict[str, list[Load]]:
    """`loads` of each, by turns; one more before them, which does not count."""
    found: dict[str, list[Load]] = {name: [] for name in pages}
    with chromium() as browser:
        for number in range(loads + 1):
            for name, (url, is_drawn) in pages.items():
                load = one_load(browser, url, is_drawn)
                if number:
                    found[name].append(load)
    return found


def one_load(browser: Any, url: str, is_drawn: str, viewport: dict[str, int] = VIEWPORT) -> Load:
    """A load in a new context."""
    wire = Wire(int(url.split(":")[2].strip("/")))
    with browser.new_context(viewport=viewport) as context:
        context.set_default_timeout(300_000)
        page = context.new_page()
        page.add_init_script(
            f"""(() => {{ const look = () => ({is_drawn})() ? requestAnimationFrame(() =>
            (window.pictureAt = performance.now())) : requestAnimationFrame(look); look(); }})();"""
        )
        page.goto(f"http://127.0.0.1:{wire.port}/", wait_until="commit")
        page.wait_for_function("() => window.pictureAt !== undefined")
        milliseconds, first = float(page.evaluate("window.pictureAt")), wire.bytes
        page.wait_for_timeout(4000)
        load = Load(milliseconds, first, wire.bytes)
    wire.close()
    return load


def show(found: dict[str, list[Load]]) -> None:
    """A row for each page and the ratio of their medians."""

    def middle(name: str, what: Callable[[Load], float]) -> float:
        return statistics.median(what(load) for load in found[name])

    columns: dict[str, Callable[[Load], float]] = {
        "ms to the first picture": lambda load: load.milliseconds,
        "kB to it": lambda load: load.first_bytes / 1000,
        "kB once quiet": lambda load: load.all_bytes / 1000,
    }
    for title, what in columns.items():
        said = [f"{name} {middle(name, what):,.1f} [{least(found[name], what)}]" for name in found]
        ratio = f", ratio {middle('tenfold', what) / middle('tensorboard', what):.3f}" if len(found) > 1 else ""
        print(f"{title}: {'; '.join(said)}{ratio}", flush=True)


def least(loads: list[Load], what: Callable[[Load], float]) -> str:
    """Lowest to highest."""
    values = [what(load) for load in loads]
    return f"{min(values):,.1f} to {max(values):,.1f}"


# Spikes


def recall(url: str, run: int, loss: np.ndarray[Any, Any], spikes: np.ndarray[Any, Any]) -> None:
    """Print the share of the spikes that each way of thinning shows, by zoom."""
    steps, noise = np.arange(1, len(loss) + 1), np.random.default_rng(1)
    print("spikes visible, of those in the ranges looked at (zoom: page, random sample of 1,500, 100 bins)")
    for zoom in ZOOMS:
        width = len(loss) // zoom
        seen, count = np.zeros(3), 0
        for begin in range(0, len(loss) - width + 1, width):
            low, high = begin + 1, begin + width
            inside = spikes[(spikes >= begin) & (spikes < begin + width)]
            if not len(inside):
                continue
            of_range = slice(begin, begin + width)
            chosen = np.sort(noise.choice(width, min(SAMPLE, width), replace=False))
            binned = thin(steps[of_range], loss[of_range], low, high, BINS if width >= 500 else width)
            ways = [
                from_page(url, run, low, high),
                (steps[of_range][chosen], loss[of_range][chosen]),
                (binned.steps, binned.values),
            ]
            seen += [visible(way, loss, inside, low, high) for way in ways]
            count += len(inside)
        shares = ", ".join(f"{share:.1%}" for share in seen / count)
        print(f"  ×{zoom}: {shares} of {count}", flush=True)


def from_page(url: str, run: int, low: int, high: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The points that the server sends the page for a range."""
    path = f"{url}api/curves?run=0.{run}&name=train/loss&low={low}&high={high}&columns={COLUMNS}"
    content = urllib.request.urlopen(path).read()
    length = int.from_bytes(content[:4], "little")
    planes = np.frombuffer(content[4 + length :], np.uint8).reshape(2, 4, -1)
    differences, numbers = planes.transpose(0, 2, 1).copy()
    return np.cumsum(differences.view("<u4")), numbers.view("<f4").ravel().astype(float)


def visible(
    shown: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
    loss: np.ndarray[Any, Any],
    inside: np.ndarray[Any, Any],
    low: int,
    high: int,
) -> int:
    """How many of the spikes `inside` have a column that reaches as high as all points would."""
    steps, values = shown
    column_of = (steps - low) * COLUMNS // (high - low + 1)
    whole = (np.arange(low, high + 1) - low) * COLUMNS // (high - low + 1)
    count = 0
    for spike in inside:
        column = (spike + 1 - low) * COLUMNS // (high - low + 1)
        drawn = values[column_of == column]
        highest = loss[low - 1 : high][whole == column].max()
        count += bool(len(drawn)) and drawn.max() >= highest * (1 - 1e-6)
    return count


# Live


def live(url: str, campaign: Path, run: int, points: int, seconds: float) -> None:
    """Print the bytes a second that reach an open page while 10 steps a second are written."""
    wire, ledger = Wire(int(url.split(":")[2].strip("/"))), Ledger(campaign / "ledger.sqlite")
    noise = np.random.default_rng(2)
    with chromium() as browser, browser.new_context(viewport=VIEWPORT) as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{wire.port}/")
        page.wait_for_selector("body[data-state=drawn]")
        page.wait_for_timeout(4000)
        before, begun, step = wire.bytes, time.monotonic(), points
        while time.monotonic() - begun < seconds:
            step += 1
            ledger.log(run, {step: dict(zip(NAMES, noise.standard_normal(len(NAMES)).tolist(), strict=True))})
            time.sleep(max(0.0, begun + (step - points) / 10 - time.monotonic()))
        page.wait_for_timeout(2000)
        took = time.monotonic() - begun
        carried = (wire.bytes - before) / took
    print(f"live: {carried:,.0f} bytes/s at {(step - points) / took:.1f} steps/s × {len(NAMES)} series", flush=True)
    wire.close()
    ledger.close()


if __name__ == "__main__":
    sys.exit(main())
