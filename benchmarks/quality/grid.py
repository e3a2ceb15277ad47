"""What merging costs in quality: learners, quorum, grace, precision, inner steps and outer step, one at a time.

    python benchmarks/quality/grid.py DIRECTORY [--tokens 401408] [--parallel 2]

Every run has the same tokens, global batch and model; its bits per byte on held-out files are given relative to one
plain learner (synchronous training). DIRECTORY gets the corpus, one JSON file a run (a run that is there is not done
again, so it may be interrupted), `grid.json` and `grid.html`, which charts participation in merges against the loss.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tenfold.campaign import run_data
from tenfold.pages.charts import line_chart

SIMULATE = Path(__file__).with_name("simulate.py")
CAMPAIGN = """
name = "quality"
seed = 1
[data]
sources = [{ kind = "python-stdlib" }]
holdouts = [{ name = "iid", kind = "split", fraction = 0.02, max_bytes = 120000 }]
tokenizer = { vocab_size = 1024, train_bytes = 2000000 }
[model]
depth = 2
width = 64
head_dim = 16
context = 128
[train]
batch_tokens = 2048
compile = "off"
[train.optimizer]
learning_rate = 0.008
muon_learning_rate = 0.04
[ladder]
sizes = 0
[learners]
count = 4
inner_steps = 8
outer_learning_rate = 1.0
outer_momentum = 0.0
"""
PLAIN = "plain"
BASE = "4 learners"
OUTER = [(0.7, 0.0), (0.7, 0.5), (0.7, 0.9), (1.0, 0.2), (1.4, 0.0)]
STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; max-width: 680px; margin: 1.2em auto; color: #1d2733; }
h1 { font-size: 19px; } h2 { font-size: 15px; margin: 1.1em 0 0; }
svg text { font-size: 11px; fill: #44505c; } svg .grid { stroke: #e3e8ee; } svg .axis { stroke: #44505c; }
svg .curve { fill: none; stroke-width: 1.8; stroke: #2f6fb0; } svg .legend { font-weight: 600; }
"""


def runs() -> Iterator[tuple[str, list[str]]]:
    """Every run: a name, and the words for simulate.py."""
    yield PLAIN, ["--learners", "0"]
    yield BASE, []
    for learners in (1, 2, 8):
        yield f"{learners} learner{'s' * (learners > 1)}", ["--learners", str(learners)]
    for quorum, grace in ((1, 1), (1, 4), (2, 0), (2, 2), (3, 0), (0, 0)):
        sets = [f"learners.quorum={quorum}", f"learners.grace={grace}"]
        yield f"quorum {quorum or 'all'}, grace {grace}", _sets(*sets)
    yield "quorum all, no overlap", _sets("learners.quorum=0", "learners.overlap=false")
    yield "synchronous", _sets("learners.quorum=0", "learners.overlap=false", "learners.inner_steps=1")
    for precision in ("float32", "bf16", "int8"):
        yield precision, _sets(f'learners.precision="{precision}"')
    for steps in (1, 2, 4, 16, 32):
        yield f"inner_steps {steps}", _sets(f"learners.inner_steps={steps}")
    for rate, momentum in OUTER:
        sets = [f"learners.outer_learning_rate={rate}", f"learners.outer_momentum={momentum}"]
        yield f"outer {rate}, {momentum}", _sets(*sets)
    yield "one 5 times slower", ["--slowest", "5"]
    for seed in (2, 3):
        yield f"other timing {seed}", ["--seed", str(seed)]


def _sets(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def main() -> None:
    """Prints one JSON object: run → bits per byte, its ratio to the plain run, participation."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tokens", type=int, default=401_408)
    parser.add_argument("--parallel", type=int, default=2)
    arguments = parser.parse_args()
    prepare(arguments.directory, arguments.tokens)
    with ThreadPoolExecutor(arguments.parallel) as pool:
        done = list(pool.map(lambda run: simulated(arguments.directory, *run), runs()))
    results = {name: outcome for (name, _), outcome in zip(runs(), done, strict=True)}
    table = relative(results)
    (arguments.directory / "grid.json").write_text(json.dumps(table, indent=1) + "\n")
    (arguments.directory / "grid.html").write_text(page(table))
    print(json.dumps(table, indent=1))


def prepare(directory: Path, tokens: int) -> None:
    """The campaign and its corpus, where they are not there yet."""
    directory.mkdir(parents=True, exist_ok=True)
    toml = CAMPAIGN.replace("[train]\n", f"[train]\ntokens = {tokens}\n")
    path = directory / "campaign.toml"
    if path.exists() and path.read_text() != toml:
        sys.exit(f"{path}: another grid's; give a new directory")
    path.write_text(toml)
    run_data(directory, ())


def simulated(directory: Path, name: str, words: list[str]) -> dict[str, Any]:
    """The outcome of a run, from its file if it is there."""
    path = directory / f"{name.replace(' ', '-').replace(',', '')}.json"
    if not path.exists():
        command = [sys.executable, str(SIMULATE), str(directory), *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        path.write_text(done.stdout)
        print(f"{name}: {done.stdout.strip()}", file=sys.stderr, flush=True)
    outcome: dict[str, Any] = json.loads(path.read_text())
    return outcome


def relative(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Bits per byte on the held-out files, beside the plain run's."""
    plain = results[PLAIN]["bits_per_byte"]["iid"]
    return {
        name: {
            "bits_per_byte": result["bits_per_byte"]["iid"],
            "worse_percent": 100 * (result["bits_per_byte"]["iid"] / plain - 1),
            "participation": result["participation"],
        }
        for name, result in results.items()
    }


def page(table: Mapping[str, Mapping[str, float]]) -> str:
    """The charts: participation, inner steps and learners against what they cost."""

    def worse(*names: str) -> list[float]:
        return [table[name]["worse_percent"] for name in names]

    merging = [name for name in table if name.startswith("quorum") and "overlap" not in name]
    by_participation = sorted((table[name]["participation"], table[name]["worse_percent"]) for name in [BASE, *merging])
    steps = [1, 2, 4, 8, 16, 32]
    by_steps = worse(*(BASE if n == 8 else f"inner_steps {n}" for n in steps))
    learners = [1, 2, 4, 8]
    by_learners = worse(*(f"{n} learner{'s' * (n > 1)}" for n in learners))
    charts = {
        "Participation: quorum and grace, four learners": line_chart(
            {"quorum all": by_participation}, "share of the learners in a merge", "% worse", from_zero=True
        ),
        "Inner steps between two contributions, four learners": line_chart(
            {"inner_steps 32": list(zip(steps, by_steps, strict=True))}, "inner_steps", "% worse", from_zero=True
        ),
        "Learners, inner_steps 8": line_chart(
            {"8 learners": list(zip(learners, by_learners, strict=True))}, "learners", "% worse", from_zero=True
        ),
    }
    title = "Bits per byte, % above one plain learner on the same tokens"
    body = "".join(f"<h2>{name}</h2>{chart}" for name, chart in charts.items())
    return f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{body}"


if __name__ == "__main__":
    main()
