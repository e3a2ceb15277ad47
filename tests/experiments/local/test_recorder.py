"""What is traced without computing is what a real step does."""

from collections import Counter

import pytest

from tenfold.experiments.local.calibration import Probe, ProbeShape
from tenfold.experiments.local.memory import memory_of
from tenfold.experiments.local.operations import Operation
from tenfold.experiments.local.recorder import AllocationLog, StepRecorder, StepTrace, micro_batches_of, trace_step
from tenfold.model import count_parameters
from tests.experiments.local.small import PROCESS, shape, train

VOCABULARY = 300
MODELS = [
    shape(),
    shape(mlp="gelu", tied_embeddings=True),
    shape(depth=3, width=96, context=128, kv_heads=2, qk_norm=False),
]


def apart_from_lists(operations: list[Operation]) -> Counter[tuple[str, tuple[int, ...]]]:
    """Without the update, in which tensors without data are not put into lists."""
    return Counter((o.kind, o.sizes) for o in operations if o.place.phase != "update")


@pytest.mark.parametrize("model", MODELS)
def test_a_trace_has_the_operations_and_the_memory_of_a_real_step(model) -> None:  # type: ignore[no-untyped-def]
    traced = trace_step(model, train(), VOCABULARY)
    probe = Probe(ProbeShape(model, VOCABULARY, (512 // model.context,), train()), threads=1)
    probe.step()
    allocations = AllocationLog()
    state = [*probe.network.parameters(), *probe.network.buffers(), *probe.state.optimizers.state_tensors().values()]
    allocations.note(state, "weights")
    before = len(allocations.events)
    with StepRecorder(probe.network, allocations) as recorder:
        probe.step()
    assert apart_from_lists(traced.operations) == apart_from_lists(recorder.record.operations)
    assert most_alive(traced.allocations.events[traced.built :]) == pytest.approx(
        most_alive(allocations.events[before:]), rel=0.01
    )


def most_alive(events: list[tuple[int, int]]) -> int:
    sizes, now, most = {n: s for n, s in events if s >= 0}, 0, 0
    for number, size in events:
        now += size if size >= 0 else -sizes.get(number, 0)
        most = max(most, now)
    return most


def multiplications(trace: StepTrace, phase: str, part: str) -> int:
    total = 0
    for operation, times in zip(trace.operations, trace.times, strict=True):
        if operation.place == (phase, part) and operation.group == "products":
            g, m, n, k = operation.sizes
            total += times * g * m * n * k
    return total


@pytest.mark.parametrize("micro_batch", [None, 3, 1])
def test_the_mlp_multiplies_each_weight_once_forward_and_twice_backward(micro_batch: int | None) -> None:
    model = shape()
    trace = trace_step(model, train(640, micro_batch=micro_batch), VOCABULARY)
    weights = 3 * model.depth * model.resolved_width * model.resolved_mlp_width
    assert multiplications(trace, "forward", "MLP") == 640 * weights
    assert multiplications(trace, "backward", "MLP") == 2 * 640 * weights


def test_micro_batches_that_are_left_out_count() -> None:
    """Ten micro-batches are traced as three, of which the middle one stands for eight."""
    assert micro_batches_of(10, 3) == [3, 3, 3, 1]
    assert micro_batches_of(4, None) == [4]
    few, many = (trace_step(shape(), train(64 * count, micro_batch=1), VOCABULARY) for count in (3, 10))
    assert len(few.operations) == len(many.operations)
    per_pass = sum(o.place.phase == "backward" for o in few.operations) / 3
    backward = [t for o, t in zip(many.operations, many.times, strict=True) if o.place.phase == "backward"]
    assert sum(backward) == pytest.approx(10 * per_pass, rel=0.01)


@pytest.mark.parametrize(("kind", "bytes_of_a_weight"), [("adamw", 8), ("muon", 4)])
def test_weights_and_optimizer_are_what_the_model_counts(kind: str, bytes_of_a_weight: int) -> None:
    model = shape()
    count = count_parameters(model, VOCABULARY)
    memory = memory_of(trace_step(model, train(kind=kind), VOCABULARY), PROCESS)
    tables = 2 * 4 * model.context * model.head_dim
    assert memory.weights == pytest.approx(4 * count.total + tables, rel=0.02)
    moments = bytes_of_a_weight * count.hidden + 8 * count.embeddings
    assert memory.optimizer == pytest.approx(moments, rel=0.03)
    assert memory.total == sum(memory.parts().values())


def test_micro_batches_save_activations() -> None:
    whole, split = (
        memory_of(trace_step(shape(), train(4096, micro_batch=size), VOCABULARY), PROCESS) for size in (None, 16)
    )
    assert split.activations < 0.5 * whole.activations
