"""[chaos]: faults injected into a run on purpose, to see what it makes of them."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tenfold.config.base import Section

FaultKind = Literal[
    "kill", "stop", "hang", "slow", "partition", "delay", "loss", "bandwidth", "corrupt", "nan", "disk-full"
]
LEARNERS_ONLY: frozenset[FaultKind] = frozenset({"hang", "nan"})  # by a signal that only learners listen to
LASTING: frozenset[FaultKind] = frozenset({"stop", "slow", "partition", "delay", "loss", "bandwidth", "disk-full"})
LINK_FAULTS: frozenset[FaultKind] = frozenset({"partition", "delay", "loss", "bandwidth", "corrupt"})
"""Done to a learner's connection by a proxy, not to a process."""
AMOUNTS: dict[FaultKind, float] = {"slow": 5.0, "delay": 0.2, "loss": 0.05, "bandwidth": 1e6, "corrupt": 1.0}
"""How strong a fault is unless said: times slower, seconds one way, share of chunks, bytes a second, chunks."""

SYNCER = "syncer"
"""Name of the syncer's first process; further shards are syncer-1, …"""
TARGET = re.compile(r"learner-\d+|syncer(-[1-9]\d*)?|any")


class Fault(Section):
    """[[chaos.faults]]: one planned fault."""

    kind: FaultKind
    """kill: SIGKILL; stop: SIGSTOP, later SIGCONT; hang: the learner's main thread sleeps for ever; slow: stopped most
    of the time; partition, delay, loss, bandwidth, corrupt: the learner's connection to the syncer; nan: the
    learner's next gradient is no number; disk-full: every write of the process fails."""
    target: str = "any"
    """"learner-0", "learner-1", …, "syncer", with [learners] syncer_shards also "syncer-1", …, or "any": one of them,
    drawn. Faults of the connection: "syncer" means that of every learner, "syncer-1" theirs to this shard."""
    at: Annotated[float, Field(ge=0, lt=1)] | None = None
    """When: share of the run's tokens. Give this or at_seconds."""
    at_seconds: Annotated[float, Field(ge=0)] | None = None
    """When: seconds after the start."""
    seconds: Annotated[float, Field(gt=0)] = 5.0
    """How long it lasts (stop, slow, partition, delay, loss, bandwidth, disk-full; the others happen once)."""
    amount: Annotated[float, Field(gt=0)] | None = None
    """How strong: times slower (slow), seconds one way (delay), share of the chunks that stall (loss), bytes a second
    (bandwidth), damaged chunks (corrupt). Default: 5, 0.2, 0.05, 1e6, 1."""

    @field_validator("target")
    @classmethod
    def _is_a_process(cls, target: str) -> str:
        if not TARGET.fullmatch(target):
            raise ValueError('a target is "learner-0", "learner-1", …, "syncer", "syncer-1", … or "any"')
        return target

    @model_validator(mode="after")
    def _makes_sense(self) -> "Fault":
        if (self.at is None) == (self.at_seconds is None):
            raise ValueError(f'say when "{self.kind}" is due, by one of `at` and `at_seconds`')
        if self.target.startswith("syncer") and self.kind in LEARNERS_ONLY:
            raise ValueError(f'"{self.kind}" needs a learner as its target, or "any"')
        self._check_amount()
        return self

    def _check_amount(self) -> None:
        if self.amount is None:
            return
        if self.kind not in AMOUNTS:
            raise ValueError(f'"{self.kind}" takes no `amount`; {", ".join(AMOUNTS)} do')
        if self.kind == "loss" and self.amount > 1:
            raise ValueError(f"amount {self.amount:g} of a loss is a share, at most 1")
        if self.kind == "slow" and self.amount <= 1:
            raise ValueError(f"amount {self.amount:g} of a slow says how many times slower, above 1")
        if self.kind == "corrupt" and self.amount % 1:
            raise ValueError(f"amount {self.amount:g} of a corrupt is a number of chunks, a whole one")


class Chaos(Section):
    """[chaos]: faults injected on purpose. None unless asked for."""

    faults: list[Fault] = []
    per_hour: Annotated[float, Field(ge=0, le=36_000)] = 0.0
    """Random faults an hour, over all processes together (a Poisson process)."""
    kinds: Annotated[list[FaultKind], Field(min_length=1)] = ["kill", "stop", "hang"]
    """Kinds the random ones are drawn from."""
    seconds: Annotated[float, Field(gt=0)] = 5.0
    """How long a random one lasts, of the kinds that last."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The same seed draws the same random faults."""
