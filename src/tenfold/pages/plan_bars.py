"""Layouts as stacked bars and as words: which parts are drawn as one, and what tells layouts apart."""

from collections.abc import Iterable, Mapping

from tenfold.pages.marks import SOFT
from tenfold.pages.plan import Planned
from tenfold.pages.plan_pictures import Bar, Paint
from tenfold.pages.scaling_charts import BLUE, GOLD, GREEN, ORANGE, PURPLE

GIGA = 1e9

TIME_GROUPS: tuple[tuple[str, Paint, tuple[str, ...]], ...] = (
    ("matrix products", Paint(BLUE, 0.95), ("matmul",)),
    ("attention", Paint(BLUE, 0.62), ("attention",)),
    ("other computing", Paint(BLUE, 0.3), ("elementwise", "head", "optimizer")),
    ("tensor and context parallel", Paint(ORANGE, 0.9), ("tensor", "context")),
    ("expert parallel", Paint(ORANGE, 0.5), ("expert",)),
    ("data parallel", Paint(GOLD, 0.9), ("data", "shard")),
    ("pipeline bubble", Paint(PURPLE, 0.9), ("bubble",)),
    ("pipeline sends", Paint(PURPLE, 0.5), ("pipeline",)),
    ("stragglers", Paint(SOFT, 0.75), ("scale",)),
    ("host", Paint(SOFT, 0.4), ("launch", "fixed")),
)
"""Name, paint and parts of StepTime. Computing is blue, communication orange and gold, waiting purple and grey."""

MEMORY_GROUPS: tuple[tuple[str, Paint, tuple[str, ...]], ...] = (
    ("weights", Paint(BLUE, 0.95), ("weights",)),
    ("gradients", Paint(BLUE, 0.62), ("gradients",)),
    ("optimizer", Paint(BLUE, 0.3), ("optimizer",)),
    ("activations", Paint(GREEN, 0.9), ("activations",)),
    ("logits", Paint(GREEN, 0.5), ("logits",)),
    ("buffers", Paint(SOFT, 0.5), ("buffers",)),
)
"""Name, paint and parts of Memory."""

TIME_PAINTS = {name: paint for name, paint, _ in TIME_GROUPS}
MEMORY_PAINTS = {name: paint for name, paint, _ in MEMORY_GROUPS}


def time_bars(layouts: Iterable[Planned]) -> list[Bar]:
    """Seconds of a step by group of parts, in order of rank."""
    return [
        Bar(
            f"{rank}. {degrees_text(layout)}",
            batch_text(layout),
            f"{seconds_text(layout.seconds)} s [{seconds_text(layout.low)}, {seconds_text(layout.high)}]",
            grouped(layout.time, TIME_GROUPS),
            (layout.low, layout.high),
        )
        for rank, layout in enumerate(layouts, 1)
    ]


def memory_bars(layouts: Iterable[Planned]) -> list[Bar]:
    """Decimal gigabytes of the fullest device by part, in order of rank."""
    return [
        Bar(
            f"{rank}. {degrees_text(layout)}",
            batch_text(layout),
            f"{layout.memory_bytes / GIGA:.1f} GB",
            {name: size / GIGA for name, size in grouped(layout.memory, MEMORY_GROUPS).items()},
        )
        for rank, layout in enumerate(layouts, 1)
    ]


def grouped(parts: Mapping[str, float], groups: Iterable[tuple[str, Paint, tuple[str, ...]]]) -> dict[str, float]:
    """Sums of the parts that are drawn as one."""
    return {name: sum(parts.get(part, 0.0) for part in members) for name, _, members in groups}


def degrees_text(layout: Planned) -> str:
    """TP 8 · PP 16 · DP 128, without degrees that are 1; a single device is "one device"."""
    degrees = {
        "TP": layout.tensor,
        "CP": layout.context,
        "PP": layout.pipeline,
        "DP": layout.data,
        "EP": layout.expert,
    }
    return " · ".join(f"{name} {degree}" for name, degree in degrees.items() if degree > 1) or "no parallelism"


def batch_text(layout: Planned) -> str:
    """Everything else that tells layouts apart."""
    words = [f"micro-batch {layout.micro_batch}"]
    words += [schedule_text(layout)] if layout.pipeline > 1 else []
    words += [f"{layout.recomputation} recomputation"] if layout.recomputation != "none" else ["no recomputation"]
    return ", ".join([*words, sharding_text(layout)])


def schedule_text(layout: Planned) -> str:
    """How micro-batches go through the pipeline; a dash where there is none."""
    if layout.pipeline == 1:
        return "–"
    base = f"{layout.interleaving} chunks" if layout.interleaving > 1 else "1F1B"
    return base if not layout.zero_bubble else "zero bubble" if base == "1F1B" else f"{base}, zero bubble"


def sharding_text(layout: Planned) -> str:
    """What each device keeps whole."""
    return {0: "nothing sharded", 1: "ZeRO-1", 2: "ZeRO-2", 3: "FSDP"}[layout.sharding]


def seconds_text(seconds: float) -> str:
    """Three digits, more from 1000 s on: 6.21, 0.0312, 1234."""
    return f"{seconds:.0f}" if seconds >= 999.5 else f"{seconds:#.3g}".rstrip(".")
