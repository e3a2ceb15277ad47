"""A plan for people to read."""

from collections.abc import Iterator
from dataclasses import fields

from tenfold.core import amount, text_table
from tenfold.planner.codesign.plan import GoalPlan
from tenfold.planner.codesign.trials import Design
from tenfold.planner.codesign.worth import BINDING, Relaxation
from tenfold.planner.cost.step import StepTime
from tenfold.planner.search.explain import describe

_GROUPS = {
    "compute": ("matmul", "attention", "elementwise", "head", "optimizer"),
    "network": ("tensor", "context", "expert", "shard", "pipeline", "data"),
    "bubble": ("bubble",),
    "host and stragglers": ("launch", "fixed", "scale"),
}
"""Parts of the step time by what they wait for."""
_HEADS = (
    "",
    "model",
    "loss",
    "days",
    "devices",
    "dollars",
    "tokens",
    "batch",
    "step s",
    "MFU",
    "GB",
    "ms/token",
)
_AIMS = {"loss": "lowest loss", "time": "least time", "cost": "least cost"}


def plan_lines(plan: GoalPlan) -> list[str]:
    """The best few, the front, what binds, what relaxing it is worth, notes."""
    best = plan.best[0]
    framework = plan.goal.framework or "any framework"
    lines = [f"{_AIMS[plan.goal.aim]} on {plan.cluster.name}, {plan.goal.precision}, {framework}"]
    if best.loss is not None:
        lines.append(f"loss: {plan.law}; {plan.level:.0%} intervals, mostly common to all rows")
    lines += ["", *_table(plan.best), "", f"layout of the first: {describe(best.layout)}"]
    lines.append(f"its step: {time_text(best.time)}")
    lines += ["", "layouts to try for it, with the chance that each is the fastest:"]
    lines += [
        f"  {chance:4.0%}  {one.seconds:.3g} s  {describe(one.layout)}"
        for one, chance in zip(plan.layouts, plan.regret.chances, strict=True)
    ]
    lines += ["", "Pareto front (loss, days, device-days, memory):", *_table(plan.front)]
    lines += ["", f"binds: {', '.join(dict.fromkeys(one.kind for one in plan.binds)) or 'nothing by itself'}"]
    lines += [f"  {_worth(one, plan.goal.aim)}" for one in plan.binds]
    rest = ", ".join(one.what for one in plan.worth if not one.binds)
    lines += [f"  worth less than {BINDING:.1%}: {rest}"] if rest else []
    lines += [f"note: {note}" for note in plan.notes]
    return [*lines, f"searches over layouts: {plan.searches}, {plan.elapsed:.1f} s"]


def time_text(time: StepTime) -> str:
    """Shares of the step by what it waits for."""
    known = {each.name for each in fields(StepTime)}
    whole = float(time.total)
    shares = {
        group: sum(float(getattr(time, part)) for part in parts if part in known) / whole
        for group, parts in _GROUPS.items()
    }
    return ", ".join(f"{group} {share:.0%}" for group, share in shares.items() if share >= 0.005)


def _table(designs: tuple[Design, ...]) -> list[str]:
    """One line for each, and below what tells them apart: models, or layouts where all are of one model."""
    alike = len({design.shape for design in designs}) == 1
    numbered = len(designs) > 1
    rows = [[str(number) if numbered else "", *_cells(design, alike=alike)] for number, design in enumerate(designs, 1)]
    lines = text_table(_HEADS, rows, "l", drop_empty=True)
    if alike:
        lines = [f"model: {_model(designs[0])}", "", *lines]
    if not numbered:
        return lines
    apart = [describe(design.layout) if alike else _model(design) for design in designs]
    return [*lines, "", *(f"{number}  {text}" for number, text in enumerate(apart, 1))]


def _model(design: Design) -> str:
    shape = design.shape
    groups = f"{shape.heads:g}/{shape.kv_heads:g} heads"
    return f"{amount(design.parameters)} ({shape.layers:g} x {shape.width:g}, {groups}, MLP {shape.mlp_width:g})"


def _cells(design: Design, *, alike: bool) -> Iterator[str]:
    yield "" if alike else amount(design.parameters)
    yield _interval(design.loss, design.loss_interval, "{:.3f}") if design.loss is not None else ""
    fixed = design.days_interval[0] == design.days_interval[1]
    yield _interval(design.days, None if fixed else design.days_interval, "{:.3g}")
    yield f"{design.devices:,}"
    yield "" if design.dollars is None else f"{design.dollars:,.0f}"
    yield amount(design.tokens)
    yield amount(design.batch_tokens)
    yield _interval(design.step_seconds, design.step_interval, "{:.3g}")
    yield f"{design.mfu:.1%}"
    yield f"{design.memory_bytes / 1e9:.1f}"
    yield "" if design.serving_seconds is None else f"{design.serving_seconds * 1e3:.1f}"


def _interval(middle: float | None, interval: tuple[float, float] | None, form: str) -> str:
    text = form.format(middle)
    return text if interval is None else f"{text} ({form.format(interval[0])} - {form.format(interval[1])})"


def _worth(one: Relaxation, aim: str) -> str:
    gain = "" if one.loss_gain is None else f"loss -{one.loss_gain:.4f}"
    what = "dollars" if aim == "cost" else "days"
    saved = "" if one.saved is None else f"{'same loss in ' if gain else ''}-{one.saved:.1%} {what}"
    return f"{one.what}: {', '.join(filter(None, (gain, saved)))}"
