"""Rules and dashboard name families that exist; promtool accepts the rules and the scrape configuration."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tenfold.ledger import METRICS
from tenfold.monitor.export.files import RULES, dashboard_json, rules_yaml, write_monitoring_files
from tenfold.monitor.export.prometheus import OWN, prometheus_name
from tests.monitor.export.test_prometheus import NEEDS_PROMTOOL

PAGES = Path(__file__).parents[3] / "docs" / "monitoring"
KNOWN = {*OWN, *(prometheus_name(metric) for metric in METRICS)}
FAMILY = re.compile(r"tenfold_\w+")


def test_the_files_in_docs_are_up_to_date(tmp_path: Path) -> None:
    for made in write_monitoring_files(tmp_path):
        assert (PAGES / made.name).read_text() == made.read_text(), "run `make docs`"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_asks_for_what_is_exported(rule: object) -> None:
    assert set(FAMILY.findall(rule.expr)) <= KNOWN  # type: ignore[attr-defined]


def test_the_rules_are_the_yaml_that_was_meant() -> None:
    (group,) = yaml.safe_load(rules_yaml())["groups"]
    assert [each["alert"] for each in group["rules"]] == [rule.name for rule in RULES]
    assert [each["expr"] for each in group["rules"]] == [rule.expr for rule in RULES]
    assert all(each["labels"]["severity"] in ("critical", "warning") for each in group["rules"])


def test_the_dashboard_shows_every_metric_once_and_no_panel_covers_another() -> None:
    panels = json.loads(dashboard_json())["panels"]
    drawn = [FAMILY.findall(panel["targets"][0]["expr"])[0] for panel in panels if panel["type"] != "row"]
    assert set(drawn) <= KNOWN and len(drawn) == len(set(drawn))
    left_out = KNOWN - set(drawn) - set(OWN)
    assert left_out == {"tenfold_digest_weights", "tenfold_digest_gradients", "tenfold_data_fingerprint"}
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x, y in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


@NEEDS_PROMTOOL
def test_promtool_accepts_rules_and_configuration(tmp_path: Path) -> None:
    rules, _, scrape = write_monitoring_files(tmp_path)
    for command in (["rules", str(rules)], ["config", str(scrape)]):
        done = subprocess.run(["promtool", "check", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and f"{len(RULES)} rules found" in done.stdout, done.stderr
