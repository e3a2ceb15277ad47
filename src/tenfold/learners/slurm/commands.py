"""Slurm's commands: sbatch, squeue, scancel. Only what every site has: no accounting database is asked."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path

from tenfold.core.errors import InputError, TenfoldError
from tenfold.learners.wire.security import TOKEN_VARIABLE

COMMANDS = ("sbatch", "squeue", "scancel")
TIMEOUT_S = 60.0
FIELDS = ("JobArrayID", "State", "exit_code", "StartTime", "EndTime")
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
)
"""What the queue says of a task that is over; all else waits, runs or still ends."""


def check_slurm() -> None:
    """Raises InputError where Slurm's commands are missing."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        raise InputError(
            f'learners.launch = "slurm": no {missing[0]} on this machine; start it where jobs are submitted, or set '
            'learners.launch = "local"'
        )


@dataclass(frozen=True)
class Task:
    """One task of an array as the queue shows it. `key` is "JOB_TASK"."""

    key: str
    state: str
    exit_code: int
    """As subprocess says it: negative for the number of a signal."""
    seconds: float
    """How long it has run, once it has ended; else 0."""

    @property
    def lives(self) -> bool:
        """Whether it runs, or may still."""
        return self.state not in ENDED


@dataclass(frozen=True)
class Slurm:
    """The jobs of one campaign: all of one name, so that those of an earlier, lost supervisor are found too."""

    name: str

    @classmethod
    def of_folder(cls, folder: Path) -> "Slurm":
        """Jobs of the campaign whose state lies in `folder`."""
        return cls(f"tenfold-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]}")

    @property
    def filter(self) -> tuple[str, str]:
        """The jobs meant: this user's, of this name."""
        return f"--name={self.name}", f"--user={os.getuid()}"

    def submit(self, numbers: Sequence[int], command: Sequence[str], options: Sequence[str], logs: Path) -> str:
        """One task for each of these learners; the number of the array job. Raises TenfoldError when refused.

        Each runs `command` with its name, "learner-N", as one more word, and appends what it prints to its log. A job
        that Slurm itself started again would be one that nobody here expects, so it never does.
        """
        with resources.as_file(resources.files("tenfold.learners.slurm") / "task.sh") as script:
            array = f"--array={','.join(map(str, numbers))}"
            log = f"--output={str(logs.resolve()).replace('%', '%%')}/learner-%a.log"
            own = (array, f"--job-name={self.name}", log, "--open-mode=append", "--no-requeue", "--nodes=1")
            return _run("sbatch", "--parsable", *options, *own, str(script), *command).partition(";")[0].strip()

    def tasks(self) -> dict[str, Task]:
        """All tasks that the queue still knows, by key, those that ended some minutes ago too.

        Raises TenfoldError when Slurm does not answer.
        """
        fields = ",".join(f"{field}:|" for field in FIELDS)
        lines = _run("squeue", "--noheader", "--array", "--states=all", *self.filter, "-O", fields).splitlines()
        return {task.key: task for task in _tasks(lines)}

    def signal(self, name: str, key: str | None = None) -> None:
        """A signal ("TERM") at once to the process of one task, or of all that run."""
        which = (key,) if key else (*self.filter, "--state=RUNNING")
        _run("scancel", "--batch", f"--signal={name}", *which)

    def cancel(self, key: str | None = None, *, pending: bool = False) -> None:
        """One task, or all there are (of those that wait): SIGTERM, and SIGKILL after what the site calls KillWait."""
        _run("scancel", *((key,) if key else self.filter), *(("--state=PENDING",) if pending else ()))


def _run(*command: str) -> str:
    """What it prints. Its own session: Ctrl-C is for the supervisor, which cancels what was submitted."""
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            start_new_session=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TenfoldError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise TenfoldError("; ".join(done.stderr.split("\n")).strip("; ") or f"{command[0]}: status {done.returncode}")
    return done.stdout


def _environment() -> dict[str, str]:
    """For jobs, which inherit it: without the token, which they read from the campaign's folder, and without what a
    job that we run in ourselves was told.
    """
    return {
        key: value
        for key, value in os.environ.items()
        if key != TOKEN_VARIABLE and (not key.startswith("SLURM_") or key == "SLURM_CONF")
    }


def _tasks(lines: Sequence[str]) -> Iterator[Task]:
    for line in lines:
        key, state, status, start, end = line.strip().split("|")[: len(FIELDS)]
        seconds = _seconds(start, end) if state in ENDED else 0.0
        yield Task(key, state, _exit_code(state, status), seconds)


def _exit_code(state: str, status: str) -> int:
    """From the status as wait(2) gives it. A task that was cancelled or lost has failed, whatever its status."""
    if state == "COMPLETED":
        return 0
    return (os.waitstatus_to_exitcode(int(status)) if status.isdigit() else 0) or 1


def _seconds(start: str, end: str) -> float:
    try:
        return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    except ValueError:  # it never started
        return 0.0
