"""Measured runs, read from a table. Blank cells are filled by what is known of family, model and layout."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from tenfold.core import InputError
from tenfold.planner.cost.layout import Layout, Shape
from tenfold.planner.hardware.accelerator import Precision, accelerator


@dataclass(frozen=True)
class MeasuredRun:
    """A training configuration and, where known, what was measured of it. Docs: docs/planner.md, "Your own rows"."""

    name: str
    """The row's id, or its number in the file."""
    source: str
    release: str
    """Version of the software or of the page, as given in `source_loc`."""
    group: str
    framework: str
    model: str
    hardware: str
    precision: Precision
    devices: float
    shape: Shape
    """Fields are single numbers, as are those of `layout`."""
    layout: Layout
    step_seconds: float | None
    """Measured, None if not."""
    memory_bytes: float | None
    """Peak of one device, measured; None if not."""

    @property
    def shape_key(self) -> str:
        """Key of the model's shape, whatever its vocabulary and context."""
        shape = self.shape
        return f"{shape.layers:g}x{shape.width:g}x{shape.mlp_width:g}x{shape.experts:g}"

    @property
    def experts(self) -> bool:
        """Whether the model has any."""
        return float(self.shape.experts) > 0


NEEDED = ("layers", "hidden", "heads", "seq", "gbs_seqs", "hardware", "n_gpus")
RECOMPUTATION = {"none": 0.0, "selective": 1.0, "full": 2.0}
_LARGEST = 1e15
DEFAULT_VOCABULARY = 51_200.0  # GPT-2's, padded as Megatron-LM does; used where a page does not print it
Cells = Mapping[str, str]


class _Impossible(Exception):
    """Cells that are numbers each, and cannot be together."""


@dataclass(frozen=True)
class SkippedRow:
    """A row that cannot be modelled, and why."""

    name: str
    reason: str


def read_runs(path: Path) -> tuple[list[MeasuredRun], list[SkippedRow]]:
    """The rows of a CSV file that can be modelled, and those that cannot: a needed cell is blank, or cells contradict.

    Raises InputError when the file cannot be read, lacks a needed column, or a cell is not what it must be.
    """
    runs: list[MeasuredRun] = []
    skipped: list[SkippedRow] = []
    for line, cells in _lines(path):
        name = cells.get("id") or str(line)
        blank = [column for column in NEEDED if not (cells.get(column) or "").strip()]
        blank += [] if _text(cells, "ffn") or _text(cells, "moe_ffn") else ["ffn"]
        if blank:
            skipped.append(SkippedRow(name, f"{', '.join(blank)} not given"))
            continue
        try:
            runs.append(_Row(cells, f"{path}: line {line}").run(name))
        except _Impossible as error:
            skipped.append(SkippedRow(name, str(error)))
    return runs, skipped


def _lines(path: Path) -> Iterator[tuple[int, Cells]]:
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            missing = [column for column in NEEDED if column not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: no column {', '.join(missing)}; needed are {', '.join(NEEDED)} and ffn")
            for cells in reader:
                yield reader.line_num, {key: value or "" for key, value in cells.items() if key}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({error})") from error


def _text(cells: Cells, column: str) -> str:
    return (cells.get(column) or "").strip()


@dataclass(frozen=True)
class _Row:
    """One row while its cells become numbers; `where` begins every complaint."""

    cells: Cells
    where: str

    def run(self, name: str) -> MeasuredRun:
        """The run, all blanks filled. Raises _Impossible for cells that contradict, InputError for a bad cell."""
        family = _family(self.cells)
        layout = self.layout(family)
        return MeasuredRun(
            name=name,
            source=_text(self.cells, "source"),
            release=_text(self.cells, "source_loc"),
            group=_text(self.cells, "group"),
            framework=family.get("framework", "unknown"),
            model=_text(self.cells, "model"),
            hardware=self.hardware(),
            precision=self.precision(),
            devices=self.count("n_gpus"),
            shape=self.shape(),
            layout=layout,
            step_seconds=self.step_seconds(),
            memory_bytes=self.memory_bytes(),
        )

    def shape(self) -> Shape:
        """Shape of the row's model."""
        model, experts = _model(_text(self.cells, "model")), self.experts()
        heads, width = self.count("heads"), self.count("hidden")
        return Shape(
            layers=self.count("layers"),
            width=width,
            heads=heads,
            kv_heads=float(model.get("kv_heads") or self.count("kv_heads", heads)),
            head_dim=self.number("head_dim", float(model.get("head_dim") or width / heads)),
            mlp_width=self.number("ffn", float(model.get("mlp_width") or self.number("moe_ffn", 0))),
            mlp_matrices=2 + self.number("gated_mlp", 1),
            vocabulary=self.number("vocab", DEFAULT_VOCABULARY),
            context=self.count("seq"),
            experts=experts,
            experts_per_token=self.count("topk") if experts else 0.0,
            shared_experts=self.number("shared_experts", float(model.get("shared_experts") or 0)),
            expert_width=self.count("moe_ffn") if experts else 0.0,
            dense_layers=self.number("dense_layers", float(model.get("dense_layers") or 0)),
            tied_embeddings=self.number("tied_embeddings", float(model.get("tied_embeddings") or 0)),
        )

    def layout(self, family: Cells) -> Layout:
        """The layout, with what the family's framework always does."""
        tensor, pipeline, context = self.count("tp", 1), self.count("pp", 1), self.count("cp", 1)
        data = self.data(self.count("n_gpus"), tensor * pipeline * context)
        micro_batch, experts = self.count("micro_batch", 1), self.experts()
        self.fits(self.count("heads"), tensor, data, micro_batch)
        return Layout(
            tensor=tensor,
            pipeline=pipeline,
            interleaving=self.count("vpp", 1),
            data=data,
            context=context,
            expert=self.expert(experts, data * context),
            micro_batch=micro_batch,
            accumulation=self.accumulation(data, micro_batch),
            balanced_stages=float(family.get("balanced_stages", 0)),
            sharding=self.sharding(family),
            shard_group=self.shard_group(data),
            sequence_parallel=float(family.get("sequence_parallel", 1)),
            fused_attention=float(family.get("fused_attention", 1)),
            reductions=self.reductions(family, pipeline, data, micro_batch),
            gradient_bytes=float(family.get("gradient_bytes", 4)),
            recomputation=self.recomputation(family),
            element_bytes=4.0 if self.precision() == "fp32" else 2.0,
        )

    def number(self, column: str, default: float | None = None) -> float:
        """A finite number that is not negative."""
        text = _text(self.cells, column)
        if not text and default is not None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= _LARGEST:  # nan is neither
            raise InputError(f"{self.where}: {column} is {text!r}; a number from 0 to {_LARGEST:g} is needed")
        return value

    def count(self, column: str, default: float | None = None) -> float:
        """A whole number of at least 1."""
        value = self.number(column, default)
        if value < 1 or value != round(value):
            raise InputError(f"{self.where}: {column} is {value:g}; a whole number of at least 1 is needed")
        return value

    def experts(self) -> float:
        """Routed experts of a layer; 0 for a dense model."""
        experts = self.number("n_experts", 0)
        if experts:
            for column in ("topk", "moe_ffn"):
                if not _text(self.cells, column):
                    raise _Impossible(f"{column} not given, with n_experts = {experts:g}")
            if self.count("topk") > experts:
                raise _Impossible(f"topk is {self.count('topk'):g}, of {experts:g} experts")
        return experts

    def expert(self, experts: float, ranks: float) -> float:
        """Expert-parallel ranks, which are ranks of the same data- and context-parallel group."""
        degree = self.count("ep", 1) if experts else 1.0
        if degree > experts > 0 or ranks * self.count("tp", 1) % degree:
            raise _Impossible(
                f"ep is {degree:g}; it must be at most n_experts = {experts:g} and divide the "
                f"{ranks * self.count('tp', 1):g} ranks of a pipeline stage"
            )
        return degree

    def fits(self, heads: float, tensor: float, data: float, micro_batch: float) -> None:
        """Raises _Impossible for degrees that the shape or the batch cannot be split into."""
        if heads % tensor:
            raise _Impossible(f"tp is {tensor:g}, which does not divide {heads:g} heads")
        if self.count("gbs_seqs") < data * micro_batch:
            raise _Impossible(
                f"gbs_seqs is {self.count('gbs_seqs'):g}, less than {data:g} data-parallel ranks with "
                f"micro-batches of {micro_batch:g}"
            )

    def data(self, devices: float, others: float) -> float:
        """Data-parallel ranks. A printed `dp` that does not fit is not used: some pages round it."""
        if devices % others and not _text(self.cells, "dp"):
            raise _Impossible(f"n_gpus {devices:g} is not a multiple of tp·pp·cp = {others:g}")
        return max(1.0, devices / others)

    def accumulation(self, data: float, micro_batch: float) -> float:
        """Micro-batches of one step and rank, from the global batch."""
        return self.count("gbs_seqs") / (data * micro_batch)

    def hardware(self) -> str:
        """A name that the hardware table knows."""
        try:
            chip = accelerator(_text(self.cells, "hardware"))
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from error
        precision = self.precision()
        if precision not in chip.peak_flops and not (precision == "bf16" and "fp16" in chip.peak_flops):
            raise _Impossible(f"{chip.name} has no published peak in {precision}")
        return _text(self.cells, "hardware")

    def precision(self) -> Precision:
        """Bits of the matrix products, from the many ways to write it."""
        text = _text(self.cells, "precision").lower() or "bf16"
        for sign, precision in (("fp4", "fp4"), ("fp8", "fp8"), ("bf16", "bf16"), ("fp16", "fp16"), ("fp32", "fp32")):
            if sign in text:
                return precision  # type: ignore[return-value]
        raise InputError(f"{self.where}: precision is {text!r}; fp32, bf16, fp16, fp8 or fp4 must be named in it")

    def sharding(self, family: Cells) -> float:
        """ZeRO's stage, from words such as "ZeRO-1", "FSDP FULL_SHARD", "DDP/dist-opt"."""
        text = _text(self.cells, "sharding").lower().replace("-", "").replace("_", "")
        if not text:
            return float(family.get("sharding", 1))
        if "fullshard" in text or text.startswith("fsdp") or "zero3" in text:
            return 2.0 if "shardgradop" in text else 3.0
        for stage in (2, 1, 0):
            if f"zero{stage}" in text:
                return float(stage)
        return 1.0 if "distopt" in text else 0.0

    def shard_group(self, data: float) -> float:
        """Ranks that share one copy, from "zero1=8"; 0 for all."""
        _, _, size = _text(self.cells, "sharding").partition("=")
        digits = size.split(" ")[0]
        return float(digits) if digits.isdigit() and 1 <= int(digits) <= data and data % int(digits) == 0 else 0.0

    def reductions(self, family: Cells, pipeline: float, data: float, micro_batch: float) -> float:
        """Times a step sums gradients: after each micro-batch where a framework does so in a pipeline without ZeRO."""
        each = family.get("pipeline_reduces_each") == "1" and pipeline > 1 and self.sharding(family) == 0
        return self.accumulation(data, micro_batch) if each else 1.0

    def recomputation(self, family: Cells) -> float:
        """none, selective or full."""
        text = _text(self.cells, "recompute").lower() or family.get("recompute", "none")
        if text not in RECOMPUTATION:
            raise InputError(f"{self.where}: recompute is {text!r}; allowed are {', '.join(RECOMPUTATION)}")
        return RECOMPUTATION[text]

    def step_seconds(self) -> float | None:
        """Measured, or what follows from tokens/s of one device."""
        for column in ("step_time_any_s", "step_time_s"):
            if _text(self.cells, column):
                return self.positive(column)
        if not _text(self.cells, "tokens_s_gpu"):
            return None
        tokens = self.count("gbs_seqs") * self.count("seq")
        return tokens / (self.positive("tokens_s_gpu") * self.count("n_gpus"))

    def memory_bytes(self) -> float | None:
        """Measured peak of one device."""
        return self.positive("mem_GB_gpu") * 1e9 if _text(self.cells, "mem_GB_gpu") else None

    def positive(self, column: str) -> float:
        """Value of a column that must be above 0."""
        value = self.number(column)
        if not value:
            raise InputError(f"{self.where}: {column} is 0; leave it blank if it was not measured")
        return value


def _family(cells: Cells) -> Cells:
    """Known habits of the framework that a group of rows was measured with."""
    group, source = _text(cells, "group"), _text(cells, "source")
    for row in _table("families.csv"):
        if row["group"] == group and row["source_contains"] in source:
            return row
    return {"framework": _text(cells, "framework")} if _text(cells, "framework") else {}


def _model(name: str) -> Cells:
    """Properties of a known model that a table of runs has no column for."""
    return next((row for row in _table("models.csv") if row["model_contains"] in name), {})


@cache
def _table(name: str) -> tuple[Cells, ...]:
    text = files("tenfold.planner.calibration").joinpath(name).read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))
