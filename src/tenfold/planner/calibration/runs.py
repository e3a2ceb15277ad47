"""Measured runs, read from a table. What is blank is filled by what is known of family, model and framework, or read in
every usual way; a row that cannot be answered is left out, with its line and the reason."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from tenfold.core import InputError
from tenfold.planner.calibration.cells import (
    HOST,
    BadCell,
    Cells,
    Sharding,
    column_of,
    count_of,
    flag_of,
    flops_convention_of,
    framework_in,
    number_of,
    precision_of,
    recomputation_of,
    sequence_parallel_of,
    sharding_of,
    text_of,
    unlike_pretraining,
)
from tenfold.planner.calibration.readings import Known, Weighted, readings
from tenfold.planner.cost.layout import RECOMPUTATIONS, Layout, Shape
from tenfold.planner.hardware.accelerator import Precision, usual_host
from tenfold.planner.hardware.cluster import LARGEST_CLUSTER, measured_tiers


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
    """What the row says, or the likeliest of its readings."""
    step_seconds: float | None
    """Measured or worked out from published FLOP/s, None if not."""
    memory_bytes: float | None
    """Peak of one device, measured; None if not."""
    readings: tuple[Weighted, ...] = ()
    """Layouts that the row may mean, with weights that sum to 1; empty where it says all."""
    certainty: float = 1.0
    """Chance that `layout` is what was run."""

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
DEFAULT_VOCABULARY = 51_200.0  # GPT-2's, padded as Megatron-LM does; used where a page does not print it
MOST_OF = {"layers": 1e4, "hidden": 1e7, "heads": 1e5, "ffn": 1e8, "vocab": 1e9, "n_experts": 1e6, "seq": 1e9}
MOST_OF_BATCH = {"gbs_seqs": 1e9, "micro_batch": 1e6, "grad_accum": 1e9, "n_gpus": float(LARGEST_CLUSTER)}
_MOST = MOST_OF | MOST_OF_BATCH
FOLLOWS = {"gbs_seqs": ("micro_batch", "grad_accum", "dp"), "n_gpus": ("dp", "tp", "pp", "cp")}
USUAL_MULTIPLE = 8
"""Of the number of heads: eight devices of a host share them out."""
USUAL_HEADS = (128, 64, 96, 160, 80, 256)
"""Widths of one head, the commonest first, where only the width of all is given."""
LARGEST_FILE = 200_000_000
"""Bytes."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class SkippedRow:
    """A row that is left out, and why."""

    name: str
    reason: str
    line: int
    """Of the file."""


def read_runs(path: Path) -> tuple[list[MeasuredRun], list[SkippedRow]]:
    """The rows of a CSV file that can be modelled, and those that cannot, each with the reason.

    Raises InputError when the file cannot be read or lacks a needed column.
    """
    runs: list[MeasuredRun] = []
    skipped: list[SkippedRow] = []
    for line, cells in _lines(path):
        name = text_of(cells, "id") or str(line)
        try:
            runs.append(_Row(_with_what_follows(cells)).run(name))
        except (BadCell, InputError) as error:
            skipped.append(SkippedRow(name, str(error), line))
    return runs, skipped


def _lines(path: Path) -> Iterator[tuple[int, Cells]]:
    reader = csv.reader(io.StringIO(_text(path), newline=""))
    try:
        heads = [column_of(head) for head in next(reader, [])]
        missing = [column for column in NEEDED if column not in heads]
        if missing:
            raise InputError(f"{path}: no column {', '.join(missing)}; needed are {', '.join(NEEDED)} and ffn")
        for values in reader:
            if any(value.strip() for value in values):
                yield reader.line_num, _named(heads, values)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not a line of a CSV file ({error})") from error


def _text(path: Path) -> str:
    """The file's text; bytes that are not UTF-8 become signs that no cell needs."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path}: larger than {LARGEST_FILE:,} bytes")
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _named(heads: list[str], values: list[str]) -> Cells:
    """Cells by column; of two columns that mean the same, the first that is filled."""
    cells: dict[str, str] = {}
    for head, value in zip(heads, values, strict=False):
        if not cells.get(head, "").strip():
            cells[head] = value
    return cells


def _with_what_follows(cells: Cells) -> Cells:
    """The cells, with blank ones that follow from others: batch and devices from degrees, heads of the usual width."""
    filled = dict(cells)
    for column, factors in FOLLOWS.items():
        values = [number_of(cells, factor) for factor in factors]
        if not text_of(cells, column) and None not in values:
            filled[column] = repr(math.prod(value for value in values if value is not None))
    hidden, tensor = number_of(cells, "hidden"), number_of(cells, "tp") or 1.0
    if hidden and not text_of(cells, "heads"):
        fitting = [width for width in USUAL_HEADS if hidden % width == 0 and hidden / width % tensor == 0]
        fitting.sort(key=lambda width: hidden / width % USUAL_MULTIPLE > 0)
        filled["heads"] = repr(hidden / fitting[0]) if fitting else ""
    return filled


@dataclass(frozen=True)
class _Row:
    """One row while its cells become numbers. Methods raise BadCell, or InputError for hardware."""

    cells: Cells

    def run(self, name: str) -> MeasuredRun:
        """The run, all blanks filled."""
        if why := unlike_pretraining(self.cells):
            raise BadCell(why)
        self.has_what_it_needs()
        family = _family(self.cells)
        hardware, precision, shape = self.hardware(), self.precision(), self.shape()
        devices = self.count("n_gpus")
        measured_tiers(hardware, round(devices))  # refuses what nobody published
        found = self.readings(family, shape)
        return MeasuredRun(
            name=name,
            source=text_of(self.cells, "source"),
            release=text_of(self.cells, "source_loc"),
            group=text_of(self.cells, "group"),
            framework=family.get("framework", UNKNOWN),
            model=text_of(self.cells, "model"),
            hardware=hardware,
            precision=precision,
            devices=devices,
            shape=shape,
            layout=found[0][0],
            step_seconds=self.step_seconds(shape),
            memory_bytes=self.memory_bytes(),
            readings=tuple(found) if len(found) > 1 else (),
            certainty=found[0][1],
        )

    def has_what_it_needs(self) -> None:
        """Raises BadCell for blank cells that nothing fills."""
        blank = [column for column in NEEDED if not text_of(self.cells, column)]
        blank += [] if any(text_of(self.cells, one) for one in ("ffn", "moe_ffn", "n_params_B")) else ["ffn"]
        if blank:
            raise BadCell(f"{', '.join(blank)} not given")

    def shape(self) -> Shape:
        """Shape of the row's model."""
        model, experts = _model(text_of(self.cells, "model")), self.experts()
        heads, width = self.count("heads"), self.count("hidden")
        dim = self.optional("head_dim") or float(model.get("head_dim") or 0)
        if not dim and width % heads:
            raise BadCell(f"heads is {heads:g}, which does not divide hidden = {width:g}; head_dim is not given")
        gated, tied = flag_of(self.cells, "gated_mlp"), flag_of(self.cells, "tied_embeddings")
        shape = Shape(
            layers=self.count("layers"),
            width=width,
            heads=heads,
            kv_heads=float(model.get("kv_heads") or self.count("kv_heads", heads)),
            head_dim=dim or width / heads,
            mlp_width=0.0,
            mlp_matrices=3.0 if gated is None else 2 + gated,
            vocabulary=self.count("vocab", DEFAULT_VOCABULARY),
            context=self.count("seq"),
            experts=experts,
            experts_per_token=self.count("topk") if experts else 0.0,
            shared_experts=self.number("shared_experts", float(model.get("shared_experts") or 0)),
            expert_width=self.count("moe_ffn") if experts else 0.0,
            dense_layers=self.number("dense_layers", float(model.get("dense_layers") or 0)),
            tied_embeddings=float(model.get("tied_embeddings") or 0) if tied is None else tied,
        )
        if heads % shape.kv_heads:
            raise BadCell(f"kv_heads is {shape.kv_heads:g}, which does not divide {heads:g} heads")
        return replace(shape, mlp_width=self.mlp_width(model, shape))

    def mlp_width(self, model: Cells, shape: Shape) -> float:
        """Hidden width of the MLP, from the number of parameters where nothing else says it."""
        if text_of(self.cells, "ffn"):
            return self.count("ffn")
        if model.get("mlp_width") or text_of(self.cells, "moe_ffn"):
            return float(model.get("mlp_width") or self.count("moe_ffn"))
        rest = self.number("n_params_B") * 1e9 - float(replace(shape, experts=0.0).parameters)
        width = rest / (float(shape.layers) * float(shape.mlp_matrices) * float(shape.width))
        if not 0.5 * float(shape.width) <= width <= 16 * float(shape.width):
            raise BadCell("ffn not given, and n_params_B does not tell it")
        return round(width)

    def readings(self, family: Cells, shape: Shape) -> list[Weighted]:
        """Layouts that the row may mean, the likeliest first, with what the family's framework always does."""
        known = self.known(family, shape)
        self.check_degrees(known)
        said = sequence_parallel_of(self.cells)
        base = Layout(
            tensor=1.0,
            pipeline=1.0,
            data=1.0,
            micro_batch=1.0,
            accumulation=1.0,
            balanced_stages=float(family.get("balanced_stages", 0)),
            sequence_parallel=float(family.get("sequence_parallel", 1)) if said is None else said,
            fused_attention=float(family.get("fused_attention", 1)),
            shared_head=float(family.get("shared_head", 0)),
            gradient_bytes=float(family.get("gradient_bytes", 4)),
            element_bytes=4.0 if self.precision() == "fp32" else 2.0,
        )
        found = readings(known, base)
        if not found:
            raise BadCell(
                f"no usual tp, pp, cp, ep and micro_batch share out {known.devices:g} devices and "
                f"{known.sequences:g} sequences"
            )
        return [(self.finished(layout, family), weight) for layout, weight in found]

    def finished(self, layout: Layout, family: Cells) -> Layout:
        """The layout with what follows from its degrees."""
        data = float(layout.data)
        group = self.sharding().group
        group = usual_host(self.hardware()).devices if group == HOST else group
        each = family.get("pipeline_reduces_each") == "1" and layout.pipeline > 1 and layout.sharding == 0
        return replace(
            layout,
            shard_group=group if 1 <= group <= data and data % group == 0 else 0.0,
            reductions=layout.accumulation if each else 1.0,
        )

    def known(self, family: Cells, shape: Shape) -> Known:
        """What the row, or else its family's habits, say of the layout."""
        habit = family.get("recompute")
        stage = self.sharding().stage if self.says_sharding() else None
        if stage is None and family.get("sharding"):
            stage = float(family["sharding"])
        return Known(
            devices=self.count("n_gpus"),
            sequences=self.count("gbs_seqs"),
            shape=shape,
            domain=float(usual_host(self.hardware()).accelerator.domain_devices),
            tensor=self.optional("tp"),
            pipeline=self.optional("pp"),
            context=self.optional("cp"),
            data=self.optional("dp"),
            expert=self.optional("ep"),
            micro_batch=self.optional("micro_batch"),
            accumulation=self.optional("grad_accum"),
            interleaving=self.optional("vpp"),
            sharding=stage,
            recomputation=recomputation_of(self.cells),
            usual_recomputation=float(RECOMPUTATIONS.index(habit)) if habit else None,
        )

    def check_degrees(self, known: Known) -> None:
        """Raises BadCell for degrees that the shape, the devices or the batch cannot be split into."""
        heads, layers = float(known.shape.heads), float(known.shape.layers)
        tensor, pipeline, context = known.tensor or 1.0, known.pipeline or 1.0, known.context or 1.0
        if heads % tensor:
            raise BadCell(f"tp is {tensor:g}, which does not divide {heads:g} heads")
        if pipeline > layers:
            raise BadCell(f"pp is {pipeline:g}, of {layers:g} layers")
        if pipeline * (known.interleaving or 1.0) > layers + 2:  # embedding and head may count as a layer each
            raise BadCell(f"vpp is {known.interleaving:g}: {pipeline:g} stages of so many chunks, of {layers:g} layers")
        others = tensor * pipeline * context
        if known.devices % others and known.data is None:
            raise BadCell(f"n_gpus {known.devices:g} is not a multiple of tp·pp·cp = {others:g}")
        self.check_batch(known, max(1.0, known.devices / others))
        self.check_experts(known, known.devices / pipeline)

    def check_batch(self, known: Known, data: float) -> None:
        """Raises BadCell for a batch that is too small."""
        micro = known.micro_batch or 1.0
        if None not in (known.tensor, known.pipeline) and known.sequences < data * micro:
            raise BadCell(
                f"gbs_seqs is {known.sequences:g}, less than {data:g} data-parallel ranks with "
                f"micro-batches of {micro:g}"
            )

    def check_experts(self, known: Known, ranks: float) -> None:
        """Raises BadCell for experts that cannot be shared out over the ranks of a stage."""
        degree, experts = known.expert or 1.0, float(known.shape.experts)
        if experts and (degree > experts or ranks % degree):
            raise BadCell(
                f"ep is {degree:g}; it must be at most n_experts = {experts:g} and divide the {ranks:g} ranks of a "
                "pipeline stage"
            )

    def number(self, column: str, default: float | None = None) -> float:
        """A number that is not negative, and not beyond what can be."""
        value = number_of(self.cells, column)
        value = default if value is None else value
        if value is None:
            raise BadCell(f"{column} not given")
        if value > _MOST.get(column, value):
            raise BadCell(f"{column} is {value:g}; at most {_MOST[column]:g} can be answered")
        return value

    def count(self, column: str, default: float | None = None) -> float:
        """A whole number of at least 1."""
        value = count_of(self.cells, column)
        return self.number(column, default) if value is None or column in _MOST else value

    def optional(self, column: str) -> float | None:
        """A whole number of at least 1; None where the cell is blank."""
        return self.count(column) if number_of(self.cells, column) is not None else None

    def experts(self) -> float:
        """Routed experts of a layer; 0 for a dense model."""
        experts = self.number("n_experts", 0)
        if not experts and (self.optional("ep") or 1.0) > 1:
            raise BadCell(f"ep is {self.optional('ep'):g}, and n_experts not given")
        if experts:
            for column in ("topk", "moe_ffn"):
                if not text_of(self.cells, column):
                    raise BadCell(f"{column} not given, with n_experts = {experts:g}")
            if self.count("topk") > experts:
                raise BadCell(f"topk is {self.count('topk'):g}, of {experts:g} experts")
        return experts

    def hardware(self) -> str:
        """A name that the hardware table knows."""
        name = text_of(self.cells, "hardware")
        chip, precision = usual_host(name).accelerator, self.precision()
        if precision not in chip.peak_flops and not (precision == "bf16" and "fp16" in chip.peak_flops):
            raise BadCell(f"{chip.name} has no published peak in {precision}")
        return name

    def precision(self) -> Precision:
        """Bits of the matrix products; 16 where the row does not say."""
        return precision_of(self.cells) or "bf16"

    def says_sharding(self) -> bool:
        """Whether the cell is understood."""
        return sharding_of(self.cells) is not None

    def sharding(self) -> Sharding:
        """What the cell says; ZeRO 1 where it is not understood."""
        return sharding_of(self.cells) or Sharding(1.0)

    def step_seconds(self, shape: Shape) -> float | None:
        """Measured, or what follows from tokens/s of one device, or from its FLOP/s where it is said how they were
        counted."""
        for column in ("step_time_any_s", "step_time_s"):
            if number_of(self.cells, column) is not None:
                return self.positive(column)
        tokens = self.count("gbs_seqs") * self.count("seq")
        if number_of(self.cells, "tokens_s_gpu") is not None:
            return tokens / (self.positive("tokens_s_gpu") * self.count("n_gpus"))
        counted = flops_convention_of(self.cells)
        if number_of(self.cells, "tflops_gpu") is None or counted not in ("whole", "half"):
            return None
        attention = 6 * shape.layers * shape.heads * shape.head_dim * shape.context
        each = shape.training_flops_per_token + (attention if counted == "whole" else 0.0)
        return float(tokens * each / (self.positive("tflops_gpu") * 1e12 * self.count("n_gpus")))

    def memory_bytes(self) -> float | None:
        """Measured peak of one device."""
        return None if number_of(self.cells, "mem_GB_gpu") is None else self.positive("mem_GB_gpu") * 1e9

    def positive(self, column: str) -> float:
        """Value of a column that must be above 0."""
        value = self.number(column)
        if not value:
            raise BadCell(f"{column} is 0; leave it blank if it was not measured")
        return value


def _family(cells: Cells) -> Cells:
    """Known habits of the framework that a row was measured with: by the column, the group of rows, or its source."""
    named = text_of(cells, "framework")
    if named:
        return _habits(framework_in(named) or named.casefold())
    group, source = text_of(cells, "group"), text_of(cells, "source")
    said = (source, text_of(cells, "source_loc"), group)
    found = next((name for text in said if (name := framework_in(text))), None)
    for row in _table("families.csv"):
        part = row["source_contains"]
        fits = part in source if part else found in (None, row["framework"])
        if row["group"] == group and fits:
            return row
    return _habits(found) if found else {}


def _habits(framework: str) -> Cells:
    """What a framework does wherever it runs; sharding and recomputation are each user's own, and Megatron-LM sums
    gradients in fp32 unless told otherwise, as NVIDIA's benchmarks do."""
    for row in _table("families.csv"):
        if row["framework"] == framework:
            others = {"recompute": "", "sharding": "3" if row["sharding"] == "3" else ""}
            return {**row, **others, **({"gradient_bytes": "4"} if framework == "megatron-core" else {})}
    return {"framework": framework}


def _model(name: str) -> Cells:
    """Properties of a known model that a table of runs has no column for."""
    return next((row for row in _table("models.csv") if row["model_contains"] in name), {})


@cache
def _table(name: str) -> tuple[Cells, ...]:
    text = files("tenfold.planner.calibration").joinpath(name).read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))
