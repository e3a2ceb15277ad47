"""CPU seconds that commands take to start and answer: user and system time of the process and those it waited for.

    python benchmarks/startup.py [--runs 10] [--only help,predict] [--json FILE]

Of the tenfold that is importable. `run` is stopped at its first line on either output. Every command runs once before
it is measured, so that compiled files are there. The minimum says what the work costs, the median what a busy machine
adds.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

RUNS_OF_OTHERS = Path(__file__).parents[1] / "tests" / "scaling" / "data" / "gadre_c4.csv"

# Command lines in today's spelling, then those of older versions: the first that is understood is measured.
COMMANDS: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "plan model": (
        "plan model Llama-3-405B --cluster llama3-16k",
        "plan --model Llama-3-405B --cluster llama3-16k",
    ),
    "predict": ("predict --table {table}",),
    "run": ("run {campaign}",),
}
GOALS = {"help": 0.6, "plan model": 2.5, "predict": 2.0, "run": 6.0}  # CPU seconds
UNTIL_FIRST_LINE = ("run",)
NOT_UNDERSTOOD = 2  # exit status


def start(words: Sequence[str]) -> subprocess.Popen[bytes]:
    """A tenfold command in a session of its own, both outputs in one pipe."""
    command = [sys.executable, "-m", "tenfold", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def cpu_seconds(words: Sequence[str], *, first_line: bool) -> tuple[float, int, str]:
    """CPU seconds of one run, its exit status and what it printed last; with `first_line` until it prints one."""
    process = start(words)
    assert process.stdout is not None
    with process.stdout as output:
        if first_line:
            printed = output.readline()
            os.killpg(process.pid, signal.SIGKILL)
        else:
            printed = output.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, process.returncode, printed.decode(errors="replace").strip()[-200:]


def has_failed(status: int, printed: str) -> bool:
    """Whether a run failed; one that was killed at its first line has when that line is an error."""
    return status not in (0, -signal.SIGKILL) or printed.startswith(("error", "Traceback"))


def understood(spellings: Sequence[str], paths: dict[str, str], *, first_line: bool) -> list[str]:
    """Words of the first spelling that the command line takes. Exits when it takes none, or the command fails."""
    printed = ""
    for spelling in spellings:
        words = [word.format(**paths) for word in spelling.split()]
        _, status, printed = cpu_seconds(words, first_line=first_line)
        if not has_failed(status, printed):
            return words
        if status != NOT_UNDERSTOOD:
            break
    sys.exit(f"tenfold {spellings[0]}: {printed}")


def measured(words: Sequence[str], *, first_line: bool) -> float:
    """CPU seconds of one run. Exits when it fails."""
    seconds, status, printed = cpu_seconds(words, first_line=first_line)
    if has_failed(status, printed):
        sys.exit(f"tenfold {' '.join(words)}: exit status {status}: {printed}")
    return seconds


def measure(name: str, paths: dict[str, str], runs: int) -> dict[str, float | str]:
    """Minimum and median of `runs` runs of a command."""
    first_line = name in UNTIL_FIRST_LINE
    words = understood(COMMANDS[name], paths, first_line=first_line)
    seconds = [
        measured(words, first_line=first_line)
        for _ in track(range(runs), name, console=Console(stderr=True), transient=True)
    ]
    shown = " ".join(Path(word).name if word in paths.values() else word for word in words)
    return {
        "command": f"tenfold {shown}",
        "minimum": round(min(seconds), 3),
        "median": round(statistics.median(seconds), 3),
        "goal": GOALS[name],
    }


def table(found: dict[str, dict[str, float | str]], runs: int) -> Table:
    """A row for each command."""
    rows = Table("command", title=f"CPU seconds, {runs} runs")
    for column in ("minimum", "median", "goal"):
        rows.add_column(column, justify="right")
    for each in found.values():
        rows.add_row(str(each["command"]), *(f"{each[key]:.2f}" for key in ("minimum", "median", "goal")))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--only", help="which of the commands, with commas between")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(COMMANDS)
    if unknown := set(names) - set(COMMANDS):
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(COMMANDS)}")
    with tempfile.TemporaryDirectory() as work:
        campaign = Path(work) / "campaign"
        subprocess.run([sys.executable, "-m", "tenfold", "init", str(campaign)], check=True, capture_output=True)
        paths = {"table": str(RUNS_OF_OTHERS), "campaign": str(campaign)}
        found = {name: measure(name, paths, arguments.runs) for name in names}
    Console(width=100).print(table(found, arguments.runs))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
