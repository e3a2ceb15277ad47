"""Loops that are not tenfold's, as learners of one run: one of two is killed, the other goes on, nothing is lost."""

import signal
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.learners.record.log import RunLog
from tenfold.ledger import Ledger
from tests.learners.anyone.small import own_run
from tests.waiting import until

TEXT = Path(__file__).parents[3] / "docs" / "learners.md"
QUICK = ("--set", "learners.inner_steps=4", "--set", "learners.stalled_after=3")


@pytest.mark.slow
def test_one_of_two_plain_loops_is_killed_and_every_sample_counts_once(tmp_path: Path) -> None:
    with own_run(tmp_path / "run", 2400, *QUICK) as run:
        address = run.serve()
        for name in ("one", "two"):
            run.train(name, "plain_loop.py", str(TEXT), address)
        until(lambda: all(len(run.steps(name)) > 20 for name in ("one", "two")))
        run.processes["two"].send_signal(signal.SIGKILL)
        assert run.ended("one") == 0, run.said("one")
        assert run.ended("syncer") == 0, run.said("syncer")
        assert "finished True" in run.said("one")
        assert run.committed() == list(range(2400))
        losses = [loss for _, _, loss in run.steps("one")]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    with closing(Ledger(tmp_path / "run" / "ledger.sqlite", read_only=True)) as ledger:
        (recorded,) = ledger.runs()
        curve = ledger.metric(recorded.id, "train/loss")
    assert len(curve) > 100
    assert curve[-1][1] < curve[0][1]


@pytest.mark.slow
def test_one_of_two_hugging_face_trainers_is_killed_and_every_sample_counts_once(tmp_path: Path) -> None:
    with own_run(tmp_path / "run", 2400, *QUICK, modules=("transformers.trainer", "accelerate")) as run:
        address = run.serve()
        for name in ("one", "two"):
            run.train(name, "trainer_loop.py", str(TEXT), address, str(tmp_path / name))
        until(lambda: all(len(run.steps(name)) > 20 for name in ("one", "two")))
        run.processes["two"].send_signal(signal.SIGKILL)
        assert run.ended("one") == 0, run.said("one")
        assert run.ended("syncer") == 0, run.said("syncer")
        assert "finished True" in run.said("one")
        assert run.committed() == list(range(2400))
        losses = [loss for _, _, loss in run.steps("one")]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


@pytest.mark.slow
def test_a_loop_with_an_order_of_its_own_and_a_syncer_that_is_killed(tmp_path: Path) -> None:
    with own_run(tmp_path / "run", 1600, *QUICK) as run:
        address = run.serve()
        run.train("one", "own_order.py", address)
        until(lambda: len(run.steps("one")) > 20)
        run.processes["syncer"].close()
        assert run.serve(int(address.rpartition(":")[2])) == address
        assert run.ended("one") == 0, run.said("one")
        assert run.ended("syncer") == 0, run.said("syncer")
        assert run.committed() == list(range(1600))


@pytest.mark.slow
def test_of_two_processes_with_one_name_the_first_ends_with_a_line(tmp_path: Path) -> None:
    # A model this small may be quarantined now and then on its way, which is not what this is about.
    settings = ("--set", "learners.inner_steps=4", "--set", "learners.strikes=1000")
    with own_run(tmp_path / "run", 800_000, *settings) as run:
        address = run.serve()
        run.train("first", "own_order.py", address, called="same")
        until(lambda: len(run.steps("first")) > 5)
        run.train("second", "own_order.py", address, called="same")
        assert run.ended("first") == 1
        assert "same: another learner of this name has joined" in run.said("first").splitlines()[-1]
        until(lambda: len(run.steps("second")) > 20)
        assert run.processes["second"].poll() is None, run.said("second")[-1000:]
        with RunLog.opened(tmp_path / "run" / "learners") as log:
            # Two that take turns make hundreds.
            assert 2 <= len(log.incarnations()) < 10
