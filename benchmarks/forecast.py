"""How well the quickstart's ladder forecasts its target: the whole campaign over several seeds, settled.

    python benchmarks/forecast.py --directory DIR [--seeds 1 2 3 4 5] [--parallel 2] [--json FILE]

Every seed is a campaign of its own: another corpus split, other initial weights, other order of the data. Targets are
trained by one process, as the rungs are. With `--parallel` several campaigns run side by side on one thread each. What
is finished is not run again.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def run_seed(directory: Path, seed: int, parallel: int) -> list[dict[str, Any]]:
    """The settled quantities of one campaign."""
    campaign = directory / f"seed-{seed}"
    tenfold = [sys.executable, "-m", "tenfold"]
    if not (campaign / "campaign.toml").exists():
        subprocess.run([*tenfold, "init", str(campaign)], check=True, stdout=subprocess.DEVNULL)
    alone = ["learners.count=0", "chaos.faults=[]"]  # what several learners cost is another question
    settings = [f"seed={seed}", *alone, *(["train.threads=1", "ladder.workers=1"] if parallel > 1 else [])]
    overrides = [part for setting in settings for part in ("--set", setting)]
    with (campaign / "log.txt").open("a") as log:
        subprocess.run([*tenfold, "run", str(campaign), *overrides], check=True, stdout=log, stderr=log)
    report = json.loads((campaign / "report.json").read_text())
    return [quantity | {"seed": seed} for quantity in report["forecast"]["quantities"]]


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """For each quantity: error of every seed, mean of their sizes, share inside the intervals."""
    lines = []
    for name in dict.fromkeys(row["quantity"] for row in rows):
        mine = [row for row in rows if row["quantity"] == name]
        errors = [row["error"] for row in mine]
        inside = {
            level: sum(row["intervals"][level][0] <= row["outcome"] <= row["intervals"][level][1] for row in mine)
            for level in ("0.5", "0.8", "0.95")
        }
        each = "  ".join(f"{100 * error:+.2f}" for error in errors)
        mean = 100 * sum(map(abs, errors)) / len(errors)
        within = "/".join(str(count) for count in inside.values())
        lines.append(f"{name:24} mean |error| {mean:.2f}%  each {each}  inside 50/80/95%: {within} of {len(mine)}")
    return lines


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.parallel) as pool:
        done = list(pool.map(lambda seed: run_seed(arguments.directory, seed, arguments.parallel), arguments.seeds))
    rows = [row for seed in done for row in seed]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
