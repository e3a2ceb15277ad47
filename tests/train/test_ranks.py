"""Ranks: who am I, which device, what is refused."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from tenfold.core.errors import InputError
from tenfold.train.ranks import Ranks, choose_device, gradient_sync, joined_ranks
from tests.waiting import PATIENCE_S

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "RANK",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "LOCAL_WORLD_SIZE",
        "TORCHELASTIC_USE_AGENT_STORE",
    ):
        monkeypatch.delenv(name, raising=False)


def test_shares_are_contiguous_equal_and_complete() -> None:
    shares = [Ranks(rank, 4, CPU).share(20) for rank in range(4)]
    assert [list(share) for share in shares] == [list(range(r * 5, r * 5 + 5)) for r in range(4)]
    with pytest.raises(InputError, match="a batch of 21 sequences cannot be shared by 4 ranks equally"):
        Ranks(0, 4, CPU).share(21)


def test_one_rank_alone_is_the_first_and_its_own_mean() -> None:
    values = torch.tensor([1.0, 2.0])
    assert Ranks(0, 1, CPU).mean(values) is values and values.tolist() == [1.0, 2.0]
    assert Ranks(0, 3, CPU).is_first and not Ranks(1, 3, CPU).is_first


def test_without_torchrun_there_is_one() -> None:
    with joined_ranks("cpu") as ranks:
        assert ranks == Ranks(0, 1, CPU)
    assert not torch.distributed.is_initialized()


def test_half_of_torchruns_variables_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="RANK is set but MASTER_ADDR, MASTER_PORT is not"), joined_ranks("cpu"):
        pass


def test_a_group_of_one_joins_and_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port)):
        monkeypatch.setenv(name, value)
    with joined_ranks("cpu") as ranks:
        assert torch.distributed.is_initialized() and ranks.world_size == 1
    assert not torch.distributed.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_cuda_where_there_is_none_is_refused_and_auto_takes_the_cpu() -> None:
    with pytest.raises(InputError, match=r'train.device = "cuda": torch sees no CUDA device here'):
        choose_device("cuda")
    assert choose_device("auto") == choose_device("cpu") == CPU


def test_a_model_of_one_rank_has_nothing_to_hold_back() -> None:
    with gradient_sync(torch.nn.Linear(1, 1), enabled=False):
        pass


LEAVING = """
import os, sys, torch
from tenfold.train.ranks import joined_ranks, replicate_model
torch.set_num_threads(1)
for start in range(20):
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(start)
    with joined_ranks("cpu") as ranks:
        model = replicate_model(torch.nn.Linear(64, 64), ranks)
        model(torch.ones(4, 64)).sum().backward()
    model = None  # after the group was left
print("left", flush=True)
"""


@pytest.mark.slow
def test_a_model_freed_after_the_group_was_left_does_not_hang_the_process() -> None:
    """What torch's DDP does with gloo if nobody keeps the group: most processes hung within three starts."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    sizes = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LEAVING]
    ranks = [
        subprocess.Popen(command, env=os.environ | shared | sizes | {"RANK": rank}, stdout=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    try:
        assert [rank.communicate(timeout=PATIENCE_S)[0] for rank in ranks] == ["left\n", "left\n"]
        assert [rank.returncode for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
