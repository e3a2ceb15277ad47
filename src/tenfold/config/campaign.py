"""The whole of campaign.toml."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from tenfold.config.base import Section
from tenfold.config.chaos import Chaos
from tenfold.config.data import Data
from tenfold.config.ladder import Ladder
from tenfold.config.learners import Learners, with_new_names
from tenfold.config.model import Model
from tenfold.config.train import Checkpoint, Evaluate, Train


class Campaign(Section):
    """campaign.toml: one file says everything about a run; every default is explained here, once."""

    name: Annotated[str, Field(min_length=1)] = "campaign"
    """Name in the ledger and the report."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Seed of everything random: data order, splits, initial weights."""
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    checkpoint: Checkpoint = Checkpoint()
    evaluate: Evaluate = Evaluate()
    ladder: Ladder = Ladder()
    learners: Learners = Learners()
    chaos: Chaos = Chaos()

    @model_validator(mode="before")
    @classmethod
    def _has_new_names(cls, values: Any) -> Any:
        return with_new_names(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _batch_is_whole_sequences(self) -> "Campaign":
        if self.train.batch_tokens % self.model.context:
            raise ValueError(
                f"train.batch_tokens {self.train.batch_tokens} must be a multiple of model.context {self.model.context}"
            )
        stride = self.evaluate.stride
        if stride is not None and stride > self.model.context:
            raise ValueError(f"evaluate.stride {stride} must not exceed model.context {self.model.context}")
        return self

    @model_validator(mode="after")
    def _faults_reach_learners(self) -> "Campaign":
        if self.learners.launch == "slurm" and (self.chaos.faults or self.chaos.per_hour):
            raise ValueError('[chaos] hits processes of this machine; with learners.launch = "slurm" leave it out')
        return self
