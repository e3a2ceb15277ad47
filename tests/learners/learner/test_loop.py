"""Learners of several ranks, as real torchrun groups over gloo: the same training, and one fault domain."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from tenfold.campaign import run_replay
from tenfold.core.errors import InputError
from tenfold.learners.record.log import RunLog
from tenfold.learners.syncer.membership import Incarnation
from tenfold.ledger import Ledger
from tests.learners.process import LoggedProcess
from tests.learners.small import (
    committed_samples,
    kill_everything,
    learners_campaign,
    start_training,
    total_samples,
    train,
)
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.slow

# Without overlap and rounding the log of a run does not depend on how long anything takes.
IN_STEP = (
    *("--set", "learners.count=1", "--set", "learners.overlap=false", "--set", 'learners.precision="float32"'),
    *("--set", 'train.precision="float32"'),  # in bf16 the order of sums shows in the fourth digit
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learners_campaign(tmp_path_factory.mktemp("ranks") / "corpus", tokens=5120)


@pytest.fixture(scope="module")
def one_rank(corpus: Path) -> Path:
    campaign = Path(shutil.copytree(corpus, corpus.parent / "one"))
    train(campaign, *IN_STEP)
    return campaign


@contextmanager
def two_ranks(campaign: Path, *words: str) -> Iterator[None]:
    """Two ranks that train as learner-0 of the campaign, as torchrun starts them; they must end well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    sizes = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    ranks = [
        LoggedProcess(
            ["learner", str(campaign), "--name", "learner-0", *words],
            environment={**where, **sizes, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        yield
        assert [rank.wait() for rank in ranks] == [0, 0], [rank.said for rank in ranks]
    finally:
        for rank in ranks:
            rank.close()


@contextmanager
def group(campaign: Path, *words: str, restarts: int = 0) -> Iterator[psutil.Process]:
    """Two ranks under torchrun that train as learner-0 of the campaign; at the end they must have ended well."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [f"--max-restarts={restarts}", "--monitor-interval=0.1", "-m", "tenfold", "learner", str(campaign)]
    with (campaign / "group.log").open("w") as log:
        process = subprocess.Popen([*command, "--name", "learner-0", *words], stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
        assert process.wait(PATIENCE_S) == 0, (campaign / "group.log").read_text()
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []:
            each.kill()
        process.wait()


@contextmanager
def syncer(campaign: Path, *words: str) -> Iterator[None]:
    """`tenfold train` that starts no learners; at the end the campaign must be trained."""
    process = start_training(campaign, "--set", 'learners.launch="none"', *words)
    try:
        until((campaign / "learners" / "syncer.json").exists)
        yield
        assert process.wait() == 0, process.said
    finally:
        kill_everything(process)


def losses(campaign: Path) -> list[float]:
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        return [loss for _, loss in ledger.metric(ledger.runs()[0].id, "train/loss")]


def lives(campaign: Path) -> list[Incarnation]:
    with RunLog.opened(campaign / "learners") as log:
        return log.incarnations()


@pytest.mark.parametrize("parallel", ["fsdp", "ddp"])
def test_two_ranks_learn_as_one_does(one_rank: Path, corpus: Path, tmp_path: Path, parallel: str) -> None:
    campaign = Path(shutil.copytree(corpus, tmp_path / parallel))
    words = (*IN_STEP, "--set", f'train.parallel="{parallel}"')
    with syncer(campaign, *words), two_ranks(campaign, *words):
        pass
    assert losses(campaign) == pytest.approx(losses(one_rank), abs=1e-4)
    assert len(losses(campaign)) == 20
    assert committed_samples(campaign) == list(range(total_samples(campaign)))
    with RunLog.opened(campaign / "learners") as log:
        parts = {(each.what.rank, each.what.ranks) for each in log.contributions()}
    assert parts == ({(0, 2), (1, 2)} if parallel == "fsdp" else {(0, 1)})
    with pytest.raises(InputError, match=r"learner-0 trained on 2 ranks.*can be replayed"):
        run_replay(campaign, words[1::2])


def test_a_rank_that_is_killed_ends_the_group_which_comes_back_healed(tmp_path: Path) -> None:
    campaign = learners_campaign(tmp_path, tokens=20480)
    words = ("--set", "learners.count=1", "--set", 'train.parallel="fsdp"', "--set", "checkpoint.every=4")
    with syncer(campaign, *words), group(campaign, *words, restarts=2) as torchrun:
        saved = campaign / "learners" / "learners" / "learner-0"
        until(lambda: any(saved.glob("step-*")))
        ranks = torchrun.children()
        next(each for each in ranks if each.environ()["RANK"] == "1").kill()
        psutil.wait_procs(ranks, 20)
    before, after = lives(campaign)
    assert before.state == "evicted" and after.state == "finished"
    assert after.origin is not None
    assert (after.origin["kind"], after.origin["life"], after.origin["ranks"]) == ("checkpoint", before.number, 2)
    assert after.origin["step"] >= 4
    assert committed_samples(campaign) == list(range(total_samples(campaign)))
    assert losses(campaign)[-1] < losses(campaign)[0] - 1
