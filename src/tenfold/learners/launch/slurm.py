"""Learners as tasks of Slurm's job arrays: submitted, watched, cancelled.

`Slurm` runs the commands sbatch, squeue and scancel, only what every site has: no accounting database is asked.
`SlurmJobs` starts learners with it as `Children` starts them here.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path

from tenfold.core import Child, Ended, InputError, TenfoldError, digest_of_bytes, last_line
from tenfold.learners.wire.security import TOKEN_VARIABLE

COMMANDS = ("sbatch", "squeue", "scancel")
TIMEOUT_S = 60.0
FIELDS = ("JobArrayID", "State", "exit_code", "StartTime", "EndTime")
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
)
"""What the queue says of a task that is over; all else waits, runs or still ends."""
LOOK_S = 5.0  # between two looks at the queue, which cost Slurm's controller one request each
RETRY_S = 30.0  # after one that was not answered
WAIT_S = 0.5  # between looks while waiting for cancelled jobs to end
LEFTOVER_GRACE_S = 15.0
KILLED_S = 15.0  # how long a job takes to end, at most, after SIGKILL
PREFIX = "learner-"


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
    def is_alive(self) -> bool:
        """Whether it runs, or may still."""
        return self.state not in ENDED


@dataclass(frozen=True)
class Slurm:
    """The jobs of one campaign: all of one name, so that those of an earlier, lost supervisor are found too."""

    name: str

    @classmethod
    def of_folder(cls, folder: Path) -> "Slurm":
        """Jobs of the campaign whose state lies in `folder`."""
        return cls(f"tenfold-{digest_of_bytes(os.fsencode(folder.resolve()))[:12]}")

    @property
    def filter(self) -> tuple[str, str]:
        """The jobs meant: this user's, of this name."""
        return f"--name={self.name}", f"--user={os.getuid()}"

    def submit(self, numbers: Sequence[int], command: Sequence[str], options: Sequence[str], logs: Path) -> str:
        """One task for each of these learners; the number of the array job. Raises TenfoldError when refused.

        Each runs `command` with its name, "learner-N", as one more word, and appends what it prints to its log. A job
        that Slurm itself started again would be one that nobody here expects, so it never does.
        """
        with resources.as_file(resources.files("tenfold.learners.launch") / "task.sh") as script:
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


# The launcher


@dataclass
class _Job:
    """One incarnation of a learner. `key` ("JOB_TASK") is empty until it is submitted."""

    child: Child
    log: Path
    requested: float
    key: str = ""
    log_start: int = 0
    condemned: bool = False


class SlurmJobs:
    """A launcher whose children are tasks of job arrays, one for each learner. Not for several threads.

    What is started is submitted at the next `poll`, all that run the same command as one array. A learner that starts
    again is one more array of one task: requeued, it would wait for minutes, until Slurm's credential of the first job
    has run out. Before the first submission every job that an earlier supervisor left behind is cancelled, and its
    end waited for.
    """

    def __init__(self, slurm: Slurm, options: Sequence[str], say: Callable[[str], None]) -> None:
        """`options`: more options of sbatch. `say` hears what people should know of the queue."""
        self._slurm, self._options, self._say = slurm, tuple(options), say
        self._jobs: dict[str, _Job] = {}
        self._ended: list[Ended] = []
        self._has_submitted = False
        self._next_submission = self._next_look = 0.0
        self._complaint = ""

    @property
    def running(self) -> list[str]:
        """Learners whose jobs wait or run, as of the last look at the queue."""
        self._look_when_due()
        return list(self._jobs)

    def start(self, child: Child) -> None:
        """Submit it at the next poll.

        `child.command` must end with its name, which must be "learner-N", and `child.log` be "learner-N.log"; its
        environment is this process's. Raises TenfoldError for another name, and when one of that name is there.
        """
        if _number(child) is None or child.log is None:
            raise TenfoldError(f"{child.name}: a learner in a Slurm array is called {PREFIX}0, {PREFIX}1, …")
        if child.name in self._jobs:
            raise TenfoldError(f"{child.name}: already there as job {self._jobs[child.name].key or 'to be submitted'}")
        self._jobs[child.name] = _Job(child, child.log, time.monotonic())

    def poll(self) -> list[Ended]:
        """Every learner that ended since the last call. Raises TenfoldError when the first submission is refused."""
        self._submit_when_due()
        self._look_when_due()
        ended, self._ended = self._ended, []
        return ended

    def kill(self, name: str) -> bool:
        """SIGKILL; whether it lived. It is repeated while Slurm does not answer."""
        if name in self._jobs:
            self._jobs[name].condemned = True
            self._look()
        return name in self._jobs

    def ask_to_stop(self, name: str) -> bool:
        """SIGTERM; whether it lived."""
        job = self._jobs.get(name)
        if job is None:
            return False
        if job.key:
            self._attempt(lambda: self._slurm.cancel(job.key))
        else:
            del self._jobs[name]
        return True

    def stop_all(self, grace: float) -> None:
        """Cancel every job of this campaign; those left `grace` seconds later get SIGKILL."""
        try:
            self._clear(grace)
        except TenfoldError as error:
            command = " ".join(("scancel", *self._slurm.filter))
            self._say(f"warning: learners may still run ({error}); cancel them with: {command}")
        self._jobs.clear()

    # Submitting

    def _submit_when_due(self) -> None:
        waiting = [job for job in self._jobs.values() if not job.key]
        if not waiting or time.monotonic() < self._next_submission:
            return
        try:
            if not self._has_submitted and (left := self._living()):
                self._say(f"Slurm jobs {', '.join(left)} were left behind by an earlier run; cancelled")
                self._clear(LEFTOVER_GRACE_S)
            for command in dict.fromkeys(job.child.command[:-1] for job in waiting):
                self._submit(command, [job for job in waiting if job.child.command[:-1] == command])
        except TenfoldError as error:
            if not self._has_submitted:
                raise TenfoldError(f"the learners cannot be submitted to Slurm: {error}") from error
            self._next_submission = time.monotonic() + RETRY_S
            self._say(f"warning: {_names(waiting)} cannot be submitted ({error}); trying again in {RETRY_S:g} s")

    def _submit(self, command: Sequence[str], waiting: Sequence[_Job]) -> None:
        numbers = {number: job for job in waiting if (number := _number(job.child)) is not None}
        logs = waiting[0].log.parent
        logs.mkdir(parents=True, exist_ok=True)
        for job in waiting:
            job.log_start = job.log.stat().st_size if job.log.exists() else 0
        array = self._slurm.submit(sorted(numbers), command, self._options, logs)
        for number, job in numbers.items():
            job.key = f"{array}_{number}"
        self._has_submitted = True
        self._say(f"{_names(waiting)} submitted as Slurm job {array}")

    # Watching

    def _look_when_due(self) -> None:
        if time.monotonic() >= self._next_look:
            self._look()

    def _look(self) -> None:
        if any(job.key for job in self._jobs.values()):
            answered = self._attempt(self._compare)
            self._next_look = time.monotonic() + (LOOK_S if answered else RETRY_S)

    def _compare(self) -> None:
        """What was submitted with what the queue shows."""
        tasks = self._slurm.tasks()
        known = {job.key: job for job in self._jobs.values() if job.key}
        for key, job in known.items():
            task = tasks.get(key)
            if task is None or not task.is_alive:
                del self._jobs[job.child.name]
                self._ended.append(_end(job, task))
        for key in [key for key, task in tasks.items() if task.is_alive]:
            if key not in known:  # of an sbatch that did its work and never answered: it is submitted again
                self._slurm.cancel(key)
            elif known[key].condemned:
                self._slurm.signal("KILL", key)

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Whether Slurm did it. What stands in the way is said once."""
        try:
            action()
        except TenfoldError as error:
            if str(error) != self._complaint:
                self._say(f"warning: Slurm: {error}; trying again")
            self._complaint = str(error)
            return False
        self._complaint = ""
        return True

    # Ending

    def _clear(self, grace: float) -> None:
        """Cancel all there are, also those this process does not know of, and wait until none is left.

        Raises TenfoldError when Slurm does not answer, or some do not end.
        """
        if not self._living():
            return
        with suppress(TenfoldError):  # of one that has just ended; whether Slurm answers, the wait finds out
            self._slurm.cancel(pending=True)
            self._slurm.signal("TERM")  # cancelled now, one that hangs could be killed only after the site's KillWait
        if self._wait_for_end(grace):
            with suppress(TenfoldError):
                self._slurm.signal("KILL")
            self._slurm.cancel()
        living = self._wait_for_end(KILLED_S)
        if living:
            raise TenfoldError(f"Slurm jobs {', '.join(living)} do not end")

    def _wait_for_end(self, seconds: float) -> list[str]:
        """Those that live all the same."""
        deadline = time.monotonic() + seconds
        while (living := self._living()) and time.monotonic() < deadline:
            time.sleep(WAIT_S)
        return living

    def _living(self) -> list[str]:
        return [task.key for task in self._slurm.tasks().values() if task.is_alive]


def learner_job(name: str, words: Sequence[str], ranks: int, logs: Path) -> Child:
    """A learner as `SlurmJobs` starts it: `tenfold WORDS --name NAME`, under torchrun where it has several ranks."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}") if ranks > 1 else ()
    command = (sys.executable, *torchrun, "-m", "tenfold", *words, "--name", name)
    return Child(name, command, {}, logs / f"{name}.log")


def _number(child: Child) -> int | None:
    digits = child.name.removeprefix(PREFIX)
    fits = child.name == f"{PREFIX}{digits}" and digits.isdecimal() and str(int(digits)) == digits
    return int(digits) if fits and child.command[-1] == child.name else None


def _names(jobs: Iterable[_Job]) -> str:
    return ", ".join(job.child.name for job in jobs)


def _end(job: _Job, task: Task | None) -> Ended:
    age = time.monotonic() - job.requested
    line = last_line(job.log, job.log_start)
    number = int(job.key.partition("_")[0])
    if task is None:
        return Ended(job.child.name, number, 1, age, line, "gone from the queue")
    state = "" if task.state in ("FAILED", "COMPLETED") else task.state
    return Ended(job.child.name, number, task.exit_code, task.seconds, line, state, max(0.0, age - task.seconds))
