"""A learner: model, optimizers, data and identity of one run, built from the campaign."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.config import Campaign
from tenfold.data import Manifest, Stream, token_byte_lengths
from tenfold.machine import numerics_fingerprint
from tenfold.model import Transformer, compile_model, initialise
from tenfold.train.batching import Batch, fetch_batch
from tenfold.train.identity import RunIdentity, identify
from tenfold.train.optimizers import build_optimizers
from tenfold.train.plan import RunPlan, plan_run
from tenfold.train.ranks import Ranks, replicate_model, shard_model
from tenfold.train.step import RunState


@dataclass
class Learner(RunState):
    """Everything the loop works with."""

    campaign: Campaign
    plan: RunPlan
    identity: RunIdentity
    model: Transformer
    """The bare model; its parameters are DTensors under FSDP. `root` is what the step calls."""
    stream: Stream

    def state_tensors(self) -> dict[str, Tensor]:
        """Every tensor a checkpoint holds, by name."""
        weights = {f"model/{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        moments = {f"optimizer/{name}": tensor for name, tensor in self.optimizers.state_tensors().items()}
        return weights | moments

    def batch(self, first_sample: int, samples: int, position: int) -> Batch:
        """These samples at this position, which counts samples of the whole run; all ranks together."""
        return fetch_batch(
            self.stream,
            self.ranks,
            step=min(position // self.plan.sequences, self.plan.steps - 1),
            first_sample=first_sample,
            samples=samples,
            micro_batch=self.plan.micro_batch,
        )


def build_learner(campaign: Campaign, data_directory: Path, manifest: Manifest, ranks: Ranks) -> Learner:
    """Build model, optimizers and stream. The initial weights are a function of the seed alone."""
    plan = plan_run(campaign, manifest.vocab_size, ranks)
    make_deterministic(plan.threads)
    model = Transformer(campaign.model, manifest.vocab_size, plan.compute_dtype)
    initialise(model, campaign.seed)
    model.to(ranks.device)
    if plan.compiled:
        compile_model(model)
    root = _share(model, campaign.train.parallel, ranks)
    lengths = torch.from_numpy(token_byte_lengths(data_directory, manifest)).to(ranks.device)
    return Learner(
        root=root,
        optimizers=build_optimizers(model, campaign.train.optimizer),
        train=campaign.train,
        ranks=ranks,
        steps=plan.steps,
        bytes_of_token=lengths,
        campaign=campaign,
        plan=plan,
        identity=identify(campaign, manifest.digest, numerics_of(plan, ranks)),
        model=model,
        stream=Stream(data_directory, manifest, campaign.seed, plan.context),
    )


def _share(model: Transformer, how: str, ranks: Ranks) -> nn.Module:
    if ranks.world_size == 1:
        return model
    if how == "fsdp":
        shard_model(model, model.blocks, ranks)
        return model
    return replicate_model(model, ranks)


def numerics_of(plan: RunPlan, ranks: Ranks) -> Mapping[str, Any]:
    """What bit-for-bit equality depends on besides config, data and code."""
    numerics = numerics_fingerprint(ranks.device, plan.threads, plan.compute_dtype, plan.compiled)
    return {**numerics, "ranks": ranks.world_size}


def make_deterministic(threads: int) -> None:
    """The same run gives the same bits: fixed thread count, deterministic kernels only."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Filling costs 2%, and no kernel here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
