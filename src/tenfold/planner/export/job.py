"""What is exported: one model, one layout, on one cluster; and the little TOML that exports need."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from tenfold.core import InputError
from tenfold.planner.cost.layout import Layout, Numbers, Shape
from tenfold.planner.hardware.accelerator import Precision
from tenfold.planner.hardware.cluster import Cluster
from tenfold.planner.hardware.write import toml_comment, toml_value


def toml_table(name: str, values: Mapping[str, Any], remarks: Mapping[str, str] | None = None) -> Iterator[str]:
    """[name] with its keys. A key whose value is None is left out; `remarks` are put above their keys."""
    yield from ["", f"[{name}]"]
    for key, value in values.items():
        if value is not None:
            yield from toml_comment((remarks or {}).get(key, ""))
            yield f"{key} = {toml_value(value)}"


@dataclass(frozen=True)
class Job:
    """A run to be exported. Shape and layout hold one number in each field.

    Raises InputError when the layout needs devices that are not there, or degrees that do not divide the model.
    """

    shape: Shape
    layout: Layout
    tokens: float
    precision: Precision
    cluster: Cluster

    def __post_init__(self) -> None:
        needed = whole(self.layout.devices)
        if needed > self.cluster.devices:
            raise InputError(f"the layout needs {needed} devices; {self.cluster.name} has {self.cluster.devices}")
        for key, number, by, degree in _divisions(self.shape, self.layout):
            if number % degree:
                raise InputError(f"layout: {by} = {degree} does not divide {key} = {number}")

    @property
    def devices(self) -> int:
        """Devices in use."""
        return whole(self.layout.devices)

    @property
    def sequences(self) -> int:
        """Sequences of one step."""
        return whole(self.layout.sequences)

    @property
    def batch_tokens(self) -> int:
        """Tokens of one step."""
        return self.sequences * whole(self.shape.context)

    @property
    def steps(self) -> int:
        """Steps that train at least `tokens`."""
        return math.ceil(self.tokens / self.batch_tokens)

    @property
    def stages(self) -> int:
        """Pieces that the pipeline cuts the layers into, all model chunks of all ranks."""
        return whole(self.layout.pipeline) * whole(self.layout.interleaving)

    @property
    def hosts(self) -> int:
        """Hosts in use."""
        return -(-self.devices // self.cluster.node_devices)


@dataclass(frozen=True)
class LatentAttention:
    """Attention whose keys and values are kept as one latent vector (DeepSeek-V2, arXiv 2405.04434, section 2.1)."""

    query_rank: int
    key_value_rank: int
    key_width: int
    """Of one head's key without positions; `value_width` is that of its value."""
    position_width: int
    """Of what all heads share for positions."""
    value_width: int


_LATENT = {(61, 7168, 128, 256): LatentAttention(1536, 512, 128, 64, 128)}
"""By layers, width, heads and experts: DeepSeek-V3 (arXiv 2412.19437, section 4.2). Plans stand in 128 heads of 96."""


def latent_attention(shape: Shape) -> LatentAttention | None:
    """The latent attention of a published model that is planned with a stand-in; None for any other shape."""
    key = (whole(shape.layers), whole(shape.width), whole(shape.heads), whole(shape.experts))
    return _LATENT.get(key) if whole(shape.head_dim) == 96 else None


def whole(value: Numbers) -> int:
    """A count that the cost model keeps as a float. Raises InputError when it is none."""
    number = float(value)
    if not number.is_integer():
        raise InputError(f"{number:g} is not a whole number: shape and layout are counts")
    return int(number)


def is_on(value: Numbers) -> bool:
    """A switch that the cost model keeps as a float."""
    return float(value) > 0


def job_summary(job: Job) -> str:
    """The job in one line, for the head of a file."""
    layout = job.layout
    degrees = {each.name: whole(getattr(layout, each.name)) for each in fields(layout)}
    shown = ("tensor", "pipeline", "context", "data", "expert")
    split = ", ".join(f"{name} {degrees[name]}" for name in shown if degrees[name] > 1) or "one device"
    return (
        f"{float(job.shape.parameters) / 1e9:.3g} B parameters, {job.tokens / 1e9:.4g} B tokens, "
        f"{job.devices} x {job.cluster.accelerator.name}: {split}"
    )


def _divisions(shape: Shape, layout: Layout) -> list[tuple[str, int, str, int]]:
    """Divisions that must be even: name, number, name of the degree, degree."""
    tensor, context, expert = whole(layout.tensor), whole(layout.context), whole(layout.expert)
    pairs = [
        ("heads", whole(shape.heads), "tensor", tensor),
        ("context", whole(shape.context), "context", context),
        ("data x context", whole(layout.data) * context, "expert", expert),
    ]
    if whole(shape.experts):
        pairs.append(("experts", whole(shape.experts), "expert", expert))
    return pairs
