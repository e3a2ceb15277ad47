"""The few constants of the cost model, each with what it means and what is known of it before any fit."""

from dataclasses import dataclass, fields

from tenfold.planner.cost.numbers import Numbers


@dataclass(frozen=True)
class Constants:
    """Calibrated constants, all positive. One number, or an array with one for each run."""

    matmul_efficiency: Numbers
    """Share of the dense peak that a large matrix product reaches."""
    matmul_half: Numbers
    """A product with one dimension this long takes twice its time at full efficiency."""
    low_precision: Numbers
    """Share of the nominal gain of 8 and 4 bit products that is left after quantising."""
    memory_efficiency: Numbers
    """Share of the memory bandwidth that elementwise kernels reach."""
    elementwise: Numbers
    """Times that a layer's activations go through memory outside of matrix products, forward."""
    attention_efficiency: Numbers
    """Share of the peak that fused attention reaches."""
    scores: Numbers
    """Times that unfused attention scores go through memory, forward."""
    routing: Numbers
    """Times that a token goes through memory for each expert it is sent to."""
    launch: Numbers
    """Seconds that the host needs to launch the kernels of one layer's pass (forward; backward counts two)."""
    expert_launch: Numbers
    """Seconds more of a pass through a layer with experts: routing, permuting, many small products."""
    collective_launch: Numbers
    """Seconds that the host needs for each collective in a layer."""
    pipeline_collective: Numbers
    """Seconds for each rank of a tensor-parallel group that a collective waits for hosts while a pipeline runs."""
    link_efficiency: Numbers
    """Share of the scale-up bandwidth that collectives reach."""
    network_efficiency: Numbers
    """Share of the network bandwidth that collectives reach."""
    latency: Numbers
    """Time of a collective's stage whatever its bytes over one message's latency: ranks wait for each other, too."""
    tensor_exposed: Numbers
    """Share of tensor-parallel communication that nothing hides."""
    context_exposed: Numbers
    expert_exposed: Numbers
    data_exposed: Numbers
    """Share of the gradients' reduction that nothing hides."""
    shard_exposed: Numbers
    """Share of the smaller of computing and gathering sharded weights that is not hidden behind the larger."""
    pipeline_send: Numbers
    """Sends between stages over the time that their bytes need."""
    pipeline_launch: Numbers
    """Seconds of a send between stages however small: kernels, and the host where it waits for them."""
    head: Numbers
    """Times that logits (4 bytes each) go through memory, forward and backward."""
    optimizer_bytes: Numbers
    """Bytes that the optimizer moves for each parameter it updates."""
    step_seconds: Numbers
    """Of every step: data, logging, host."""
    scale_loss: Numbers
    """Share by which a step gets longer with each doubling of the devices beyond 8: jitter and stragglers."""
    slowness: Numbers
    """Everything that this framework on this site does slower than counted."""


NAMES: tuple[str, ...] = tuple(each.name for each in fields(Constants))
