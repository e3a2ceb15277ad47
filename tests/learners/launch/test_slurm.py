"""Learners as jobs of a real Slurm: submitted, killed, submitted again, and none left when the run is over."""

import os
import re
import signal
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tenfold.core.errors import TenfoldError
from tenfold.core.processes import Child, Ended
from tenfold.learners.launch.slurm import Slurm, SlurmJobs
from tests.learners.launch.slurm_cluster import slurm_cluster, why_not
from tests.learners.small import (
    committed_samples,
    events,
    kill_everything,
    learners_campaign,
    lives,
    merges,
    start_training,
    total_samples,
)
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=f"needs a Slurm cluster: {why_not()}"),
]

IN_SLURM = """launch = "slurm"
slurm_options = ["--partition=main", "--time=10"]
"""
ENDS = """
import os, sys
name = sys.argv[1]
print(name, "was here", flush=True)
if name == "learner-0":
    sys.exit(3)
if name == "learner-11":
    os.kill(os.getpid(), 9)
"""
POLITE = "import signal, sys; signal.signal(15, lambda *_: sys.exit('saved')); print('up', flush=True); signal.pause()"
HANGS = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as configuration, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(configuration))
        patch.setenv("TENFOLD_TOKEN", "not-of-this-run")  # a job that inherited it would be refused by the syncer
        yield


@pytest.fixture
def slurm(cluster: None, tmp_path: Path) -> Slurm:
    return Slurm.of_folder(tmp_path)


@pytest.fixture
def jobs(slurm: Slurm) -> Iterator[SlurmJobs]:
    said: list[str] = []
    made = SlurmJobs(slurm, ["--time=10"], said.append)
    yield made
    made.stop_all(0.0)


def python(tmp_path: Path, number: int, code: str) -> Child:
    name = f"learner-{number}"
    return Child(name, (sys.executable, "-c", code, name), {}, tmp_path / "logs" / f"{name}.log")


def living(slurm: Slurm) -> list[str]:
    return sorted(task.key for task in slurm.tasks().values() if task.is_alive)


def ends(jobs: SlurmJobs, count: int) -> dict[str, Ended]:
    found: dict[str, Ended] = {}

    def all_ended() -> bool:
        found.update({ended.name: ended for ended in jobs.poll()})
        return len(found) == count

    until(all_ended)
    return found


def says(child: Child, word: str = "up") -> None:
    until(lambda: child.log.exists() and word in child.log.read_text())


def test_learners_are_one_array_and_how_each_ended_is_told(jobs: SlurmJobs, slurm: Slurm, tmp_path: Path) -> None:
    began = time.monotonic()
    for number in (0, 2, 11):
        jobs.start(python(tmp_path, number, ENDS))
    assert jobs.running == ["learner-0", "learner-2", "learner-11"]
    with pytest.raises(TenfoldError, match="learner-0: already there as job to be submitted"):
        jobs.start(python(tmp_path, 0, ENDS))
    with pytest.raises(TenfoldError, match="site-b: a learner in a Slurm array is called learner-0, learner-1"):
        jobs.start(Child("site-b", (sys.executable, "site-b"), {}, tmp_path / "site-b.log"))
    found = ends(jobs, 3)
    assert {name: (end.code, end.how, end.last_line) for name, end in found.items()} == {
        "learner-0": (3, "status 3", "learner-0 was here"),
        "learner-2": (0, "status 0", "learner-2 was here"),
        "learner-11": (-9, "SIGKILL", "learner-11 was here"),
    }
    assert len({end.pid for end in found.values()}) == 1, "one array"
    elapsed = time.monotonic() - began + 1.0  # Slurm tells whole seconds
    assert all(end.seconds + end.waited <= elapsed for end in found.values())
    assert jobs.running == [] and living(slurm) == []


def test_one_that_hangs_is_killed_at_once_and_started_again(jobs: SlurmJobs, slurm: Slurm, tmp_path: Path) -> None:
    child = python(tmp_path, 1, HANGS)
    jobs.start(child)
    jobs.poll()
    says(child)
    before = living(slurm)
    assert jobs.kill("learner-1")
    assert ends(jobs, 1)["learner-1"].how == "SIGKILL"
    assert not jobs.kill("learner-1")
    jobs.start(child)
    assert jobs.poll() == []
    until(lambda: child.log.read_text().count("up") == 2)
    assert len(living(slurm)) == 1 and living(slurm) != before, "a job of its own, not held back as a requeued one"


def test_all_are_asked_to_save_and_then_killed(jobs: SlurmJobs, slurm: Slurm, tmp_path: Path) -> None:
    polite, hung = python(tmp_path, 0, POLITE), python(tmp_path, 1, HANGS)
    waits = python(tmp_path, 2, POLITE)
    for child in (polite, hung):
        jobs.start(child)
    jobs.poll()
    says(polite)
    says(hung)
    never = SlurmJobs(slurm, ["--begin=now+1hour"], print)
    never._has_submitted = True
    never.start(waits)
    never.poll()
    assert len(living(slurm)) == 3
    jobs.stop_all(10.0)
    assert living(slurm) == []
    assert "saved" in polite.log.read_text()
    assert not waits.log.exists()


def test_one_that_is_let_go_saves_and_one_that_still_waits_never_starts(jobs: SlurmJobs, tmp_path: Path) -> None:
    child, waits = python(tmp_path, 0, POLITE), python(tmp_path, 1, POLITE)
    jobs.start(child)
    jobs.poll()
    says(child)
    jobs.start(waits)
    assert jobs.ask_to_stop("learner-1") and jobs.running == ["learner-0"]
    assert jobs.ask_to_stop("learner-0")
    end = ends(jobs, 1)["learner-0"]
    assert (end.how, end.code, end.last_line) == ("CANCELLED", 1, "saved")
    assert not jobs.ask_to_stop("learner-0")


def test_while_slurm_is_away_nothing_is_taken_for_dead(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    jobs, child = SlurmJobs(slurm, (), said.append), python(tmp_path, 0, HANGS)
    jobs.start(child)
    jobs.poll()
    says(child)
    nobody = tmp_path / "slurm.conf"
    nobody.write_text(re.sub(r"(?<=SlurmctldPort=)\d+", "9", Path(os.environ["SLURM_CONF"]).read_text()))
    with monkeypatch.context() as away:
        away.setenv("SLURM_CONF", str(nobody))
        assert jobs.kill("learner-0")
        assert jobs.poll() == []
    assert len(said) == 2 and "Unable to contact slurm controller" in said[1]
    assert jobs.kill("learner-0")
    assert ends(jobs, 1)["learner-0"].how == "SIGKILL"


def test_what_an_earlier_supervisor_left_is_gone_before_the_first_job(
    slurm: Slurm, jobs: SlurmJobs, tmp_path: Path
) -> None:
    before, others = SlurmJobs(slurm, (), print), SlurmJobs(Slurm("tenfold-another"), (), print)
    left, other = python(tmp_path, 0, POLITE), python(tmp_path / "another", 0, POLITE)
    before.start(left)
    others.start(other)
    before.poll()
    others.poll()
    says(left)
    says(other)
    old = living(slurm)
    assert "saved" not in left.log.read_text()
    jobs.start(left)
    jobs.poll()
    assert len(living(slurm)) == 1 and living(slurm) != old
    assert "saved" in left.log.read_text()
    assert others.running == ["learner-0"], "another campaign's"
    others.stop_all(5.0)


def test_a_job_that_nobody_here_knows_is_cancelled(jobs: SlurmJobs, slurm: Slurm, tmp_path: Path) -> None:
    """As when an answer of sbatch is lost."""
    child = python(tmp_path, 0, POLITE)
    jobs.start(child)
    jobs.poll()
    (mine,) = living(slurm)
    other = slurm.submit([0], child.command[:-1], (), child.log.parent)
    assert living(slurm) == sorted([mine, f"{other}_0"])
    until(lambda: jobs.poll() == [] and living(slurm) == [mine])
    assert jobs.running == ["learner-0"]


def test_what_slurm_refuses_is_said(slurm: Slurm, tmp_path: Path) -> None:
    jobs = SlurmJobs(slurm, ["--partition=gone"], print)
    jobs.start(python(tmp_path, 0, POLITE))
    with pytest.raises(TenfoldError, match=r"^the learners cannot be submitted to Slurm: .*invalid partition .*gone"):
        jobs.poll()


def test_a_learner_killed_in_its_job_loses_nothing(cluster: None, tmp_path: Path) -> None:
    campaign = learners_campaign(tmp_path, tokens=64_000, more=IN_SLURM)
    process = start_training(campaign, "--set", "learners.stalled_after=120")  # a death is Slurm's to tell
    try:
        until(lambda: merges(campaign) >= 3 and len(lives(campaign)) == 2)
        other, killed = (learner_process(campaign, name) for name in ("learner-0", "learner-1"))
        token = (campaign / "learners" / "token").read_text().strip()
        assert stat.S_IMODE((campaign / "learners" / "token").stat().st_mode) == 0o600
        assert token not in repr((killed.cmdline(), killed.environ())), "it is read from the file"
        other.suspend()  # the run must not be over before the other is back
        killed.kill()
        until(lambda: lives(campaign).count("learner-1") == 2)
        other.resume()
        assert process.wait() == 0, process.said
        assert "learner-1 died (SIGKILL); starting it again" in process.said
    finally:
        kill_everything(process)
    assert events(campaign)["died"] == 1
    assert lives(campaign) == ["learner-0", "learner-1", "learner-1"]
    assert committed_samples(campaign) == list(range(total_samples(campaign)))
    assert living(Slurm.of_folder(campaign / "learners")) == []


def test_a_lost_supervisors_jobs_end_with_the_next_and_none_outlives_ctrl_c(cluster: None, tmp_path: Path) -> None:
    campaign = learners_campaign(tmp_path, tokens=64_000, more=IN_SLURM)
    slurm, process = Slurm.of_folder(campaign / "learners"), start_training(campaign)
    until(lambda: merges(campaign) >= 1)
    kill_everything(process)
    orphans = living(slurm)
    assert len(orphans) == 2
    again = start_training(campaign)
    try:
        until(lambda: only_new_ones(living(slurm), orphans))
        again.send_signal(signal.SIGINT)
        assert again.wait() == 130, again.said
        assert "stopped as asked" in again.said
    finally:
        kill_everything(again)
    assert living(slurm) == []


def only_new_ones(jobs: list[str], orphans: list[str]) -> bool:
    return len(jobs) == 2 and not {*jobs} & {*orphans}


def learner_process(campaign: Path, name: str) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(campaign.resolve()) in words and words[-2:] == ["--name", name]:
            return process
    raise AssertionError(f"{name} does not run")
