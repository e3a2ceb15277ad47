"""Files for Prometheus and Grafana, made from the table of metrics: scrape configuration, alert rules, dashboard."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenfold.core import write_text
from tenfold.ledger import METRICS, Metric, metric_of
from tenfold.monitor.export.prometheus import HEARTBEAT, INCIDENTS, OPEN, RUNNING, STEP, prometheus_name

RULES_FILE = "tenfold-alerts.yml"
DASHBOARD_FILE = "tenfold-dashboard.json"
SCRAPE_FILE = "prometheus.yml"
SILENT_S = 900
"""Age of the heartbeat, or time without a new step, from which on a run that should go on is taken for dead."""
LOW_DISK = 10 * 2**30
HOT_C = 90


def _family(name: str) -> str:
    return prometheus_name(metric_of(name))


@dataclass(frozen=True)
class Rule:
    """One alert: when `expr` has been true for so long."""

    name: str
    expr: str
    minutes: int
    severity: str
    summary: str


RULES = (
    Rule(
        "TenfoldCannotSee", 'up{job="tenfold"} == 0', 2, "critical", "the run cannot be seen: no answer from /metrics"
    ),
    Rule("TenfoldNothingToSee", f"absent({RUNNING})", 5, "warning", "no run is reported at all"),
    Rule(
        "TenfoldSilent",
        f"{HEARTBEAT} > {SILENT_S} and on (instance) (max by (instance) ({RUNNING}) == 1)",
        1,
        "critical",
        "a run that should go on has written nothing for {{ $value | humanizeDuration }}",
    ),
    Rule(
        "TenfoldNoProgress",
        f"{RUNNING} == 1 and changes({STEP}[{SILENT_S}s]) == 0 and {STEP} offset {SILENT_S}s",
        1,
        "critical",
        f"run {{{{ $labels.run }}}} takes no step since {SILENT_S // 60} minutes",
    ),
    Rule(
        "TenfoldCriticalIncident",
        f'sum by (instance, kind) ({INCIDENTS}{{severity="critical",state!="closed"}}) > 0',
        0,
        "critical",
        "{{ $labels.kind }}: a critical incident is open; see `tenfold incidents`",
    ),
    Rule(
        "TenfoldIncident",
        f'sum by (instance, kind) ({INCIDENTS}{{severity="warning",state!="closed"}}) > 0',
        5,
        "warning",
        "{{ $labels.kind }}: an incident is open; see `tenfold incidents`",
    ),
    Rule(
        "TenfoldWrongArithmetic",
        f'{_family("probe/wrong")}{{probe="wrong"}} > 0',
        0,
        "critical",
        "a probe computed {{ $value }} wrong values: this machine corrupts what it trains",
    ),
    Rule(
        "TenfoldMemoryErrors",
        f'{_family("device/0/x")}{{figure="uncorrected_errors"}} > 0',
        0,
        "critical",
        "device {{ $labels.device }}: {{ $value }} memory errors that were not corrected",
    ),
    Rule(
        "TenfoldHot",
        f'{_family("device/0/x")}{{figure="temperature"}} > {HOT_C}',
        5,
        "warning",
        "device {{ $labels.device }}: {{ $value }} °C",
    ),
    Rule(
        "TenfoldDiskFull",
        f"{_family('disk/free')} < {LOW_DISK}",
        5,
        "warning",
        "{{ $value | humanize1024 }}B left where the campaign lies",
    ),
    Rule(
        "TenfoldWrongData",
        f"{_family('data/mismatch')} > 0",
        0,
        "critical",
        "{{ $value }} samples of a batch are not what the index says",
    ),
)


def rules_yaml() -> str:
    """Alert rules. Strings are written as JSON has them, which is YAML too."""
    lines = ["# Made by `tenfold metrics files`. promtool check rules accepts it.", "groups:", "  - name: tenfold"]
    lines.append("    rules:")
    for rule in RULES:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {json.dumps(rule.expr)}",
            f"        for: {rule.minutes}m",
            f"        labels: {{severity: {rule.severity}}}",
            f"        annotations: {{summary: {json.dumps(rule.summary, ensure_ascii=False)}}}",
        ]
    return "\n".join(lines) + "\n"


def scrape_yaml(target: str = "127.0.0.1:9107", every: str = "15s") -> str:
    """The smallest configuration of a Prometheus that scrapes one campaign and knows the rules."""
    return f"""# Made by `tenfold metrics files`; the target is where `tenfold metrics serve` listens.
global: {{scrape_interval: {every}, evaluation_interval: {every}}}
rule_files: [{RULES_FILE}]
scrape_configs:
  - job_name: tenfold
    static_configs: [{{targets: ["{target}"]}}]
"""


# The dashboard (Grafana's JSON model, schema version 39)

GRAFANA_UNITS = {"s": "s", "bytes": "bytes", "bytes/s": "Bps", "share": "percentunit"}
WIDTH, HEIGHT, COLUMNS = 8, 8, 3
TITLES = {
    "train": "Learning",
    "holdout": "Holdouts",
    "tokens": "Loss by token frequency",
    "block": "Blocks",
    "numerics": "Numerics",
    "digest": "Digests",
    "source": "Data",
    "data": "Data",
    "time": "Step time",
    "process": "Process",
    "device": "Hardware",
    "disk": "Hardware",
    "probe": "Measured health",
    "link": "Network",
    "observer": "Other observers",
}
NOT_DRAWN = ("digest", "data/fingerprint")
"""Names whose size means nothing."""


def dashboard() -> dict[str, Any]:
    """A dashboard with a panel for each metric, in rows, and incidents and signs of life on top."""
    panels = [*_row("Is it alive", 0)]
    for expr, title, legend in (
        (OPEN, "open incidents", "{{severity}}"),
        (HEARTBEAT, "seconds since the last write", "{{instance}}"),
        (STEP, "step", "run {{run}}"),
    ):
        panels.append(_panel(title, expr, legend, "short", len(panels) - 1, 1))
    y = 1 + HEIGHT
    for title, metrics in _grouped().items():
        panels += _row(title, y)
        for place, metric in enumerate(metrics):
            legend = " ".join(f"{{{{{label}}}}}" for label in ["run", *_braces(metric)])
            unit = GRAFANA_UNITS.get(metric.unit, "short")
            panels.append(_panel(metric.name, prometheus_name(metric), legend, unit, place, y + 1, metric.meaning))
        y += 1 + HEIGHT * -(-len(metrics) // COLUMNS)
    return _whole([panel | {"id": number} for number, panel in enumerate(panels, 1)])


def _grouped() -> dict[str, list[Metric]]:
    grouped: dict[str, list[Metric]] = {}
    for metric in METRICS:
        if not metric.name.startswith(NOT_DRAWN):
            grouped.setdefault(TITLES.get(metric.name.split("/")[0], "Other"), []).append(metric)
    return grouped


def _braces(metric: Metric) -> list[str]:
    return [part.split("}")[0] for part in metric.name.split("{")[1:]]


def _row(title: str, y: int) -> list[dict[str, Any]]:
    return [{"type": "row", "title": title, "collapsed": False, "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}}]


def _panel(title: str, expr: str, legend: str, unit: str, place: int, y: int, about: str = "") -> dict[str, Any]:
    x, y = WIDTH * (place % COLUMNS), y + HEIGHT * (place // COLUMNS)
    return {
        "type": "timeseries",
        "title": title,
        "description": about,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": [{"refId": "A", "expr": f'{expr}{{instance=~"$instance"}}', "legendFormat": legend}],
    }


def _whole(panels: Sequence[dict[str, Any]]) -> dict[str, Any]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    instance = {
        "name": "instance",
        "type": "query",
        "label": "Campaign",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values({RUNNING}, instance)",
        "includeAll": True,
        "multi": True,
        "refresh": 2,
    }
    return {
        "title": "tenfold",
        "uid": "tenfold",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source, instance]},
        "panels": list(panels),
    }


def dashboard_json() -> str:
    """The dashboard as Grafana imports it."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def write_monitoring_files(folder: Path, target: str = "127.0.0.1:9107") -> list[Path]:
    """Write all three. Raises InputError where the folder cannot be written."""
    texts = {RULES_FILE: rules_yaml(), DASHBOARD_FILE: dashboard_json(), SCRAPE_FILE: scrape_yaml(target)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
