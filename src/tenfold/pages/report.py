"""From the report's data to one HTML file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tenfold.pages.changes import changes_page
from tenfold.pages.charts import line_chart
from tenfold.pages.forecast import forecast_page
from tenfold.pages.learners import learners_page, trained_by
from tenfold.pages.plan_page import plan_section
from tenfold.pages.style import template_environment

COMPRESSORS = ("gzip", "zstd", "xz")


@dataclass(frozen=True)
class ReportSection:
    """A part of the report, shown when `view` finds its data in report.json; its template knows the view by `name`."""

    name: str
    view: Callable[[Mapping[str, Any]], object | None]
    template: str
    heading: str = ""
    """Of a template that other pages show too; others write their own."""


SECTIONS = (
    ReportSection("forecast", forecast_page, "forecast.html.jinja"),
    ReportSection("changes", changes_page, "changes.html.jinja"),
    ReportSection("plan", plan_section, "plan_section.html.jinja", "Plan"),
    ReportSection("learners", learners_page, "learners.html.jinja"),
)
"""In the order of the page, between the scores and the curves."""


@dataclass(frozen=True)
class FunnelRow:
    """Documents and bytes that went one way; `share` of the documents in percent. No bytes where none are known."""

    label: str
    documents: int
    bytes: int | None
    share: float


def render(report: Mapping[str, Any]) -> str:
    """report.html: self-contained, opens offline."""
    views = {section.name: section.view(report) for section in SECTIONS}
    page = template_environment().get_template("report.html.jinja")
    return page.render(
        report=report,
        holdouts=[_holdout(name, score) for name, score in report["holdouts"].items()],
        charts=_charts(report),
        funnel=_funnel(report["data"]["funnel"]),
        config=_flat(report["config"]),
        sections=[section for section in SECTIONS if views[section.name]],
        **views,
        trained_by=trained_by(report),
    )


def _holdout(name: str, score: Mapping[str, Any]) -> dict[str, Any]:
    """One card: the model's bits per byte beside the compressors', as bars of one scale."""
    values = {"model": score["bits_per_byte"]} | {peer: score[f"{peer}_bits_per_byte"] for peer in COMPRESSORS}
    widest = max(values.values())
    bars = [(label, value, 100 * value / widest) for label, value in values.items()]
    return {
        "name": name,
        **score,
        "bars": bars,
        "share_of_xz": 100 * score["bits_per_byte"] / score["xz_bits_per_byte"],
    }


def _charts(report: Mapping[str, Any]) -> dict[str, Markup]:
    curves, per_step = report["curves"], report["run"]["tokens"] / report["run"]["steps"]

    def over_tokens(name: str) -> list[tuple[float, float]]:
        return [(step * per_step, value) for step, value in curves.get(name, [])]

    holdouts = {name: over_tokens(f"holdout/{name}/bits_per_byte") for name in report["holdouts"]}
    judged = {"training": over_tokens("train/bits_per_byte"), **holdouts}
    return {
        "bits_per_byte": line_chart(judged, "training tokens", "bits per byte"),
        "loss": line_chart({"loss": over_tokens("train/loss")}, "training tokens", "nats per token"),
        "learning_rate": line_chart(
            {"learning rate": over_tokens("train/learning_rate")}, "training tokens", "learning rate", from_zero=True
        ),
        "grad_norm": line_chart(
            {"gradient norm": over_tokens("train/grad_norm")}, "training tokens", "gradient norm", from_zero=True
        ),
        "tokens_per_second": line_chart(
            {"tokens/s": over_tokens("train/tokens_per_second")}, "training tokens", "tokens per second", from_zero=True
        ),
    }


def _funnel(funnel: Mapping[str, Any]) -> list[FunnelRow]:
    """Documents in, what became of them, documents kept; each as a share of what came in."""
    total = max(funnel["documents_in"], 1)

    def row(label: str, documents: int, size: int | None) -> FunnelRow:
        return FunnelRow(label, documents, size, 100 * documents / total)

    return [
        row("records read", funnel["documents_in"], funnel["bytes_in"]),
        *(row(f"rejected: {why}", n, funnel["rejected_bytes"].get(why)) for why, n in funnel["rejected"].items()),
        row("exact duplicates", funnel["exact_duplicates"], funnel["exact_duplicates_bytes"]),
        row("near-duplicates", funnel["near_duplicates"], funnel["near_duplicates_bytes"]),
        row("held out, or near-copies of what is", funnel["held_out"], funnel["held_out_bytes"]),
        row("contaminated: text taken out", funnel["contaminated"], funnel["contaminated_bytes"]),
        row("of these, too little left", funnel["dropped_after_decontamination"], None),
        row("kept", funnel["documents_kept"], funnel["bytes_kept"]),
    ]


def _flat(value: Any, key: str = "") -> list[tuple[str, Any]]:
    """`section.key` and value of every leaf."""
    if isinstance(value, Mapping):
        return [pair for name, inner in value.items() for pair in _flat(inner, f"{key}.{name}".lstrip("."))]
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return [pair for number, inner in enumerate(value) for pair in _flat(inner, f"{key}[{number}]")]
    return [] if value is None else [(key, value)]
