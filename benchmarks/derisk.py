"""What `tenfold derisk` says of known changes, and of changes that change nothing.

    python benchmarks/derisk.py --campaign DIR [--seeds 2] [--nulls 10] [--null-sizes SIZE,...] [--json FILE]

DIR is a campaign with its corpus built. The known changes are those in docs/changes; each null is another pair of
seeds, judged as a change; neighbouring nulls share a seed. Nothing is trained twice, so the benchmark can be stopped
and started again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CHANGES = Path(__file__).resolve().parents[1] / "docs" / "changes"
KNOWN = ("no-qk-norm", "gelu", "adamw")
FIRST_NULL_SEED = 1001


def derisk(change: Path, campaign: Path, *options: str) -> dict[str, Any]:
    """The verdict on one change."""
    command = [sys.executable, "-m", "tenfold", "derisk", str(change), str(campaign), "--json", *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def null_change(folder: Path, number: int) -> Path:
    """A change that sets other seeds and nothing else."""
    path = folder / f"null-{number}.toml"
    path.write_text(f"[set]\nseed = {FIRST_NULL_SEED + number}\n")
    return path


def line(result: dict[str, Any]) -> str:
    """One verdict."""
    assessment = result["assessment"]
    pooled, target = assessment["pooled"], assessment["at_target"]
    return (
        f"{result['name']:12} {assessment['verdict']:10} {assessment['trend']:8} "
        f"ladder {pooled['value']:.3f} [{pooled['low']:.3f}, {pooled['high']:.3f}]  "
        f"target {target['value']:.3f} [{target['low']:.3f}, {target['high']:.3f}]  "
        f"scales {' '.join(format(scale['value'], '.2f') for scale in assessment['scales'])}"
    )


def main() -> None:
    """The known changes, then the nulls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaign", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--nulls", type=int, default=10)
    parser.add_argument("--null-sizes", default="w16-d2,w32-d2,w48-d2")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seeds = ("--seeds", str(arguments.seeds))
    results = []
    for name in KNOWN:
        results.append(derisk(CHANGES / f"{name}.toml", arguments.campaign, *seeds))
        print(line(results[-1]), flush=True)
    undecided = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.nulls):
            change = null_change(Path(folder), number)
            results.append(derisk(change, arguments.campaign, *seeds, "--sizes", arguments.null_sizes))
            undecided += results[-1]["assessment"]["verdict"] == "undecided"
            print(line(results[-1]), flush=True)
    print(f"nulls undecided: {undecided} of {arguments.nulls}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
