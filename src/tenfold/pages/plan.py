"""What `tenfold plan` found, as plan.json keeps it: what was asked, the best layouts, and what else was looked at.

Plain numbers and words, so that the page and the report can be drawn again without planning again.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from tenfold.core import InputError, write_json

Recomputation = Literal["none", "selective", "full"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
MOST_MEASURED = 50_000
"""Devices of the largest runs that anybody has published; what is said about more is an extrapolation."""
ROUNDING = 1e-6
"""Relative difference that sums of parts may have from their totals."""


class _Strict:
    """Unknown keys are refused."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Asked(_Strict):
    """The question: one model on one cluster."""

    cluster: str
    accelerator: str
    devices: Count
    memory_bytes: Positive
    """Of one device."""
    model: str
    parameters: Positive
    context: Count
    sequences: Count
    """Of one step: the global batch."""
    precision: str


@dataclass(frozen=True)
class Planned(_Strict):
    """One layout and its forecast."""

    tensor: Count
    context: Count
    pipeline: Count
    data: Count
    expert: Count
    interleaving: Count
    """Model chunks on each pipeline stage."""
    zero_bubble: bool
    micro_batch: Count
    accumulation: Count
    recomputation: Recomputation
    sharding: Annotated[int, Field(ge=0, le=3)]
    """ZeRO stage; 3 is FSDP."""
    seconds: Positive
    low: Positive
    high: Positive
    """`low` to `high` is the 90% interval of `seconds`, the time of one step."""
    time: dict[str, Amount]
    """Seconds by part; they sum to `seconds`."""
    memory: dict[str, Amount]
    """Bytes by part on the fullest device."""
    tokens_per_second: Positive
    mfu: Positive
    chance_to_fit: Share
    """That the device's memory is enough, given how far forecasts were off."""
    extrapolation: bool
    """Whether nobody has published a measurement on as many devices."""

    @property
    def memory_bytes(self) -> float:
        """Of the fullest device, all parts."""
        return math.fsum(self.memory.values())

    @model_validator(mode="after")
    def _consistent(self) -> "Planned":
        if not self.low <= self.seconds <= self.high:
            raise ValueError("seconds must lie between low and high")
        if not math.isclose(math.fsum(self.time.values()), self.seconds, rel_tol=ROUNDING):
            raise ValueError("the parts of time must sum to seconds")
        return self


@dataclass(frozen=True)
class FrontPoint(_Strict):
    """One candidate; `low` to `high` is the interval of y."""

    name: str
    x: Finite
    y: Finite
    low: Finite
    high: Finite
    best: bool
    """Whether it is on the Pareto front: nothing is better in both."""

    @model_validator(mode="after")
    def _consistent(self) -> "FrontPoint":
        if not self.low <= self.y <= self.high:
            raise ValueError("y must lie between low and high")
        return self


@dataclass(frozen=True)
class Front(_Strict):
    """Candidates in the plane of two goals."""

    x_label: str
    y_label: str
    points: tuple[FrontPoint, ...]


@dataclass(frozen=True)
class FleetPoint(_Strict):
    """Goodput of a fleet of one size, as a share, with its interval."""

    devices: Count
    goodput: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _consistent(self) -> "FleetPoint":
        if not self.low <= self.goodput <= self.high:
            raise ValueError("goodput must lie between low and high")
        return self


@dataclass(frozen=True)
class FleetLine(_Strict):
    """Goodput against size in one mode of training."""

    mode: str
    points: tuple[FleetPoint, ...]


@dataclass(frozen=True)
class Lever(_Strict):
    """What the outcome changes by when one thing is made worse and better: -0.06 for 6% less.

    None where nothing fits any more; the setting is empty where it was not tried.
    """

    name: str
    worse_setting: str
    worse: Finite | None
    better_setting: str
    better: Finite | None


@dataclass(frozen=True)
class Sensitivity(_Strict):
    """How much one outcome depends on each of several things."""

    outcome: str
    levers: tuple[Lever, ...]


@dataclass(frozen=True)
class Plan(_Strict):
    """Everything that the page shows. Layouts are in order of rank; what was not looked at is None or empty."""

    asked: Asked
    layouts: tuple[Planned, ...]
    front: Front | None = None
    fleet: tuple[FleetLine, ...] = ()
    sensitivity: Sensitivity | None = None
    notes: tuple[str, ...] = ()
    """Sentences for the reader: what binds, what was left out."""
    format: Literal[1] = 1

    @model_validator(mode="after")
    def _answered(self) -> "Plan":
        if not self.layouts:
            raise ValueError("a plan has at least one layout")
        return self

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Any, where: str = "plan") -> "Plan":
        """The inverse of `to_dict`. Raises InputError: one line that names `where`, the key and what is allowed."""
        if not isinstance(record, dict):
            raise InputError(f"{where}: not a plan; run `tenfold plan` again")
        try:
            return _READER.validate_python(record)
        except ValidationError as error:
            raise InputError(f"{where}: {_first_fault(error)}") from None


_READER = TypeAdapter(Plan)


def _first_fault(error: ValidationError) -> str:
    """Key, value and what is allowed of the first thing that is wrong."""
    first = error.errors()[0]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], str | int | float) and first["type"] != "missing":
        return f"{key} = {first['input']!r}: {message[0].lower()}{message[1:]}"
    return f"{key}: {message}" if key else message


def write_plan(plan: Plan, path: Path) -> None:
    """As JSON, whole or not at all. Raises InputError for a plan that could not be read back."""
    record = plan.to_dict()
    Plan.from_dict(record, str(path))
    write_json(path, record)


def read_plan(path: Path) -> Plan | None:
    """The plan in a file; None if there is no such file. Raises InputError for one that is no plan."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise InputError(f"{path}: not valid JSON; run `tenfold plan` again") from None
    return Plan.from_dict(record, str(path))
