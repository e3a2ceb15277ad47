"""A run's numbers, worked out once from the campaign before anything is built."""

from dataclasses import dataclass

import torch

from tenfold.config import Campaign
from tenfold.core import InputError
from tenfold.machine import choose_compute_dtype, has_cpp_compiler, usable_cores
from tenfold.model import count_parameters, training_flops_per_token
from tenfold.train.ranks import Ranks

TOKENS_PER_PARAMETER = 20  # Hoffmann et al., arXiv 2203.15556, approach 1–3 at moderate compute
GPU_MICRO_BATCH = 16
EVALUATIONS = 5
# Compiling one block costs 10 to 30 s on a CPU; an eager run shorter than this does not earn it back.
COMPILE_FROM_FLOPS = {"cpu": 1e13, "cuda": 1e16}


@dataclass(frozen=True)
class RunPlan:
    """How many steps of what size, in which arithmetic."""

    steps: int
    sequences: int
    """Sequences in one step, all ranks together."""
    micro_batch: int
    """Sequences in one forward pass of one rank."""
    context: int
    evaluate_every: int
    threads: int
    compute_dtype: torch.dtype
    compiled: bool
    parameters: int
    flops_per_token: float

    @property
    def tokens_per_step(self) -> int:
        """Tokens in one optimizer step."""
        return self.sequences * self.context


def plan_run(campaign: Campaign, vocab_size: int, ranks: Ranks) -> RunPlan:
    """Work out the run. Raises InputError when the budget is less than one step."""
    train, context = campaign.train, campaign.model.context
    parameters = count_parameters(campaign.model, vocab_size).total
    tokens = train.tokens or TOKENS_PER_PARAMETER * parameters
    steps = tokens // train.batch_tokens
    if steps < 1:
        raise InputError(f"train.tokens = {tokens}: less than one step of train.batch_tokens = {train.batch_tokens}")
    flops_per_token = training_flops_per_token(campaign.model, vocab_size)
    mine = len(ranks.share(train.batch_tokens // context))
    return RunPlan(
        steps=steps,
        sequences=train.batch_tokens // context,
        micro_batch=min(mine, train.micro_batch or (mine if ranks.device.type == "cpu" else GPU_MICRO_BATCH)),
        context=context,
        evaluate_every=campaign.evaluate.every or max(1, steps // EVALUATIONS),
        threads=train.threads or max(1, usable_cores() // ranks.local_world_size),
        compute_dtype=choose_compute_dtype(ranks.device, train.precision),
        compiled=_pays_to_compile(train.compile, ranks.device.type, flops_per_token * tokens),
        parameters=parameters,
        flops_per_token=flops_per_token,
    )


def _pays_to_compile(setting: str, device: str, flops: float) -> bool:
    """Decided from the plan, never from a clock: a resumed run must decide the same."""
    if setting == "auto":
        return flops >= COMPILE_FROM_FLOPS[device] and (device == "cuda" or has_cpp_compiler())
    if setting == "on" and device == "cpu" and not has_cpp_compiler():
        raise InputError('train.compile = "on": no working C++ compiler here; install g++ or set it to "auto"')
    return setting == "on"
