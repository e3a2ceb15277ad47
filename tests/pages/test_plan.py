"""plan.json: what is written is read back, and what is wrong is said in one line."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.pages.plan import FleetLine, FleetPoint, Plan, read_plan, write_plan
from tests.campaign.plan.example import llama_plan

Record = dict[str, Any]
PLAN = llama_plan()


def record() -> Record:
    """As it is read back from JSON."""
    loaded: Record = json.loads(json.dumps(PLAN.to_dict()))
    return loaded


def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_plan(PLAN, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == PLAN


def test_without_a_file_there_is_no_plan(tmp_path: Path) -> None:
    assert read_plan(tmp_path / "plan.json") is None


shares = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted)
points = st.builds(lambda size, ends: FleetPoint(size, ends[1], ends[0], ends[2]), st.integers(1, 10**8), shares)


@given(st.lists(st.builds(FleetLine, st.text(max_size=20), st.lists(points).map(tuple))).map(tuple))
def test_any_fleet_is_read_back(fleet: tuple[FleetLine, ...]) -> None:
    plan = Plan(PLAN.asked, PLAN.layouts, fleet=fleet)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def layout(**other: Any) -> Callable[[Record], None]:
    return lambda plan: plan["layouts"][1].update(other)


WRONG: dict[str, tuple[Callable[[Record], object], str]] = {
    "a name mistyped": (layout(tensr=8), "layouts[1].tensr"),
    "no device": (
        lambda plan: plan["asked"].update(devices=0),
        "asked.devices = 0: input should be greater than or equal",
    ),
    "half a degree": (layout(tensor=1.5), "layouts[1].tensor = 1.5: input should be a valid integer"),
    "not a number": (layout(seconds=math.nan), "layouts[1].seconds = nan: input should be a finite number"),
    "time outside its interval": (layout(low=1e9), "layouts[1]: seconds must lie between low and high"),
    "parts that are not the whole": (layout(time={"matmul": 1.0}), "layouts[1]: the parts of time must sum to seconds"),
    "negative memory": (layout(memory={"weights": -1}), "layouts[1].memory.weights = -1: input should be greater"),
    "recomputation nobody knows": (
        layout(recomputation="some"),
        "layouts[1].recomputation = 'some': input should be 'none'",
    ),
    "no layout": (lambda plan: plan.update(layouts=[]), "a plan has at least one layout"),
    "goodput above one": (lambda plan: plan["fleet"][0]["points"][0].update(high=1.2), "fleet[0].points[0].high = 1.2"),
    "a front turned over": (
        lambda plan: plan["front"]["points"][0].update(low=9.0),
        "front.points[0]: y must lie between",
    ),
    "another format": (lambda plan: plan.update(format=2), "format = 2: input should be 1"),
    "nothing asked": (lambda plan: plan.pop("asked"), "asked: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    spoil, said = WRONG[name]
    plan = record()
    spoil(plan)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    with pytest.raises(InputError) as error:
        read_plan(path)
    assert str(error.value).startswith(f"{path}: ") and said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"plan"', "null", "\udc80".encode("utf-8", "surrogatepass")])
def test_a_file_that_is_no_plan_is_said_to_be_none(text: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match="run `tenfold plan` again"):
        read_plan(path)


def test_a_plan_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one layout"):
        write_plan(Plan(PLAN.asked, ()), tmp_path / "plan.json")
    assert not (tmp_path / "plan.json").exists()
