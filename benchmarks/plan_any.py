"""Whether the planner answers any question, or refuses it in one clear line, in seconds and as valid JSON.

    python benchmarks/plan_any.py [--questions 100] [--seed 0] [--slow 20]

Draws accelerators of the table and [device] tables of one's own, 1 to 10^6 devices (round numbers, odd ones, primes),
models, batches, and what is asked: layouts, layouts with failures, a goal, a fleet. Prints what took longer than
`--slow` seconds, what failed otherwise than by one line, and how many were answered.
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tenfold.campaign import plan_fleet, plan_goal, plan_model
from tenfold.campaign.plan.answer import WIDTH, PlanAnswer
from tenfold.cli.options import finite
from tenfold.core import InputError
from tenfold.planner.codesign.known import known_models
from tenfold.planner.hardware.accelerator import accelerators

GOALS = {
    "time": 'aim = "time"\ntokens = 1e12\n[model]\nname = "{model}"\n',
    "cost": 'aim = "cost"\ntokens = 1e11\n[model]\nname = "{model}"\n[batch]\ntokens = {batch}\n',
    "loss": 'aim = "loss"\nmost_searches = 40\n[budget]\ndays = 10\n',
}
DEVICE = """name = "own"
devices = {devices}
price_dollars_per_device_hour = 1.5
[device]
name = "MyGPU-{number}"
{peaks}
memory_gb = {memory}
memory_gb_per_s = {bandwidth}
link = "{link}"
link_gb_per_s = {link_speed}
domain_devices = {domain}
nic_gb_per_s = {nic}
"""
SLOW = 20.0


@dataclass(frozen=True)
class Asked:
    """A question in words, and how it is asked."""

    words: str
    ask: Callable[[], PlanAnswer]


def devices(draw: random.Random) -> int:
    """From 1 to 10^6: powers of two, round numbers, and any others."""
    any_ = round(10 ** draw.uniform(0, 6))
    return draw.choice([2 ** draw.randint(0, 19), 10 ** draw.randint(0, 6), 8 * max(1, any_ // 8), any_])


def cluster(draw: random.Random, folder: Path, number: int) -> str:
    """ACCELERATOR:DEVICES, or a file with a device of one's own."""
    count = devices(draw)
    if draw.random() < 0.6:
        return f"{draw.choice(accelerators()).name}:{count}"
    peaks = "\n".join(
        f"{precision}_tflops = {draw.choice([1, 50, 300, 2000])}"
        for precision in draw.sample(["fp32", "fp16", "bf16", "fp8"], draw.randint(1, 4))
    )
    text = DEVICE.format(
        devices=count,
        number=number,
        peaks=peaks,
        memory=draw.choice([8, 24, 80, 192]),
        bandwidth=draw.choice([100, 900, 8000]),
        link=draw.choice(["NVLink4", "PCIe5", "our link"]),
        link_speed=draw.choice([16, 300, 900]),
        domain=draw.choice([1, 2, 6, 8, 72]),
        nic=draw.choice([0, 3.125, 50]),
    )
    path = folder / f"cluster{number}.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def question(draw: random.Random, folder: Path, number: int) -> Asked:
    """One question."""
    where = cluster(draw, folder, number)
    model = draw.choice(known_models()).name
    kind = draw.choice(["layouts", "layouts with failures", "goal", "fleet"])
    batch = draw.choice([1, 8, 512, 1000, 4096]) * 32768
    if kind == "fleet":
        return Asked(f"fleet on {where}", lambda: plan_fleet("llama3-h100", where))
    if kind == "goal":
        aim = draw.choice(sorted(GOALS))
        path = folder / f"goal{number}.toml"
        path.write_text(GOALS[aim].format(model=model, batch=batch), encoding="utf-8")
        return Asked(f"goal {aim} {model} batch {batch} on {where}", lambda: plan_goal(path, where))
    failures = "llama3-h100" if kind == "layouts with failures" else None
    precision = draw.choice(["bf16", "bf16", "fp8", "fp16"])
    return Asked(
        f"{kind} {model} batch {batch} {precision} on {where}",
        lambda: plan_model(model, where, batch_tokens=batch, precision=precision, simulate=failures),
    )


def outcome(asked: Asked) -> tuple[str, str]:
    """Answered, refused, or what is wrong, and the detail."""
    try:
        answer = asked.ask()
    except InputError as error:
        return ("refused", str(error)) if "\n" not in str(error) else ("several lines", str(error))
    except Exception as error:  # what a stranger would see as a traceback
        return "traceback", f"{type(error).__name__}: {error}"
    json.dumps(finite(answer.record), allow_nan=False)
    wide = [line for line in answer.lines if len(line) > WIDTH]
    return ("wide", wide[0]) if wide else ("answered", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", type=float, default=SLOW)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    counts: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.questions):
            asked = question(draw, Path(folder), number)
            begin = time.process_time()
            what, detail = outcome(asked)
            seconds = time.process_time() - begin
            slowest = max(slowest, seconds)
            counts[what] += 1
            if what not in ("answered", "refused") or seconds > given.slow:
                print(f"{what} in {seconds:.1f} CPU s: {asked.words}: {detail}", flush=True)
            elif what == "refused":
                print(f"  refused: {asked.words}: {detail}", flush=True)
    print(f"{dict(counts)}; slowest {slowest:.1f} CPU s")


if __name__ == "__main__":
    main()
