"""The ranks of one learner: who am I, how we share the model, what we agree on."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from tenfold.core import InputError


@dataclass(frozen=True)
class Ranks:
    """This process among the processes of its learner."""

    rank: int
    world_size: int
    device: torch.device
    local_world_size: int = 1
    """Ranks on this machine, which share its cores."""

    @property
    def is_first(self) -> bool:
        """Whether this rank talks: console, ledger, publishing."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """The part of `count` items that is this rank's: contiguous, equal on every rank.

        Raises InputError when `count` does not divide.
        """
        if count % self.world_size:
            raise InputError(f"a batch of {count} sequences cannot be shared by {self.world_size} ranks equally")
        mine = count // self.world_size
        return range(self.rank * mine, (self.rank + 1) * mine)

    def gathered(self, value: Any) -> list[Any]:
        """What each rank gave, by rank: plain values, and all ranks must call it."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(values)
            values /= self.world_size
        return values


def choose_device(setting: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to train on. Raises InputError when cuda is asked for and absent."""
    if setting == "cuda" and not torch.cuda.is_available():
        raise InputError('train.device = "cuda": torch sees no CUDA device here; set it to "auto" or "cpu"')
    if setting == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def joined_ranks(setting: Literal["auto", "cpu", "cuda"]) -> Iterator[Ranks]:
    """Join the process group torchrun started, if it did; leave it at the end."""
    device = choose_device(setting)
    if "RANK" not in os.environ:
        yield Ranks(0, 1, device)
        return
    missing = [name for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(f"RANK is set but {', '.join(missing)} is not: start ranks with torchrun, or unset RANK")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", **_meeting_place())
    try:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        yield Ranks(dist.get_rank(), dist.get_world_size(), device, local)
    finally:
        _leave_group()


def _leave_group() -> None:
    """Leave the process group and never free it.

    Freed by DDP's reducer, which holds Python's lock, gloo's group waits for its threads, and they may wait for that
    lock to let go of a tensor: the process hangs at its end, or aborts there ("terminate called without an active
    exception"). Threads of a group that is never freed sleep until the process is gone.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
    dist.destroy_process_group()


def _meeting_place() -> dict[str, Any]:
    """Where the ranks find each other: by default as the environment says.

    torchrun's agent gives every start of a group the same store, in which restarted ranks may find where those before
    them listened. On one machine all agree on the number of the start, so each has a corner of the store to itself.
    """
    env = os.environ
    alone = env.get("LOCAL_WORLD_SIZE") == env["WORLD_SIZE"] and env.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not alone:
        return {}
    rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
    store = TCPStore(env["MASTER_ADDR"], int(env["MASTER_PORT"]), size, False)
    start = PrefixStore(f"start-{env.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    return {"store": start, "rank": rank, "world_size": size}


def shard_model(model: nn.Module, blocks: nn.ModuleList, ranks: Ranks) -> None:
    """FSDP2: shard each block and then the rest over the ranks, in place (ZeRO-3)."""
    mesh = init_device_mesh(ranks.device.type, (ranks.world_size,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "token_nats")  # evaluation calls it instead of forward


def replicate_model(model: nn.Module, ranks: Ranks) -> nn.Module:
    """DDP: every rank holds all of it and gradients are averaged."""
    devices = None if ranks.device.type == "cpu" else [ranks.device.index]
    return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)  # rotary tables never change


@contextmanager
def gradient_sync(model: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Let DDP skip the all-reduce for all but the last micro-batch of a step."""
    if enabled or not isinstance(model, DistributedDataParallel):
        yield
        return
    with model.no_sync():
        yield
