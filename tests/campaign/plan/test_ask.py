"""`tenfold plan`: its questions, asked as a person does."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tenfold.campaign.plan.answer import PlanAnswer
from tenfold.campaign.plan.ask import plan_check, plan_fleet, plan_goal
from tenfold.campaign.plan.layouts import plan_model
from tenfold.config import load_campaign
from tenfold.core.errors import InputError
from tests import warm
from tests.planner.calibration.test_runs import ROW, written


def told(*arguments: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What the command says."""
    return warm.run(["plan", *arguments], cwd=directory)


def test_layouts_of_a_known_model_with_page_and_pictures(tmp_path: Path) -> None:
    run = told(
        *("model", "Llama-3-8B", "--cluster", "H100-SXM:64", "--batch-tokens", "1048576", "--top", "3", "--explain"),
        *("--simulate", "llama3-h100", "--to", str(tmp_path / "plan")),
    )
    assert run.returncode == 0, run.stderr
    assert "90% interval" in run.stdout and "matrix products" in run.stdout and "network bandwidth" in run.stdout
    page = (tmp_path / "plan" / "plan.html").read_text(encoding="utf-8")
    assert "Llama-3-8B" in page and page.count("<svg") >= 4
    assert (tmp_path / "plan" / "fleet.png").stat().st_size > 1000


def test_json_is_one_object_and_agrees_with_what_people_read() -> None:
    options = ("model", "Llama-3-8B", "--cluster", "h100-64", "--batch-tokens", "1048576", "--top", "2")
    record = json.loads(told(*options, "--json").stdout)
    first = record["layouts"][0]
    assert len(record["layouts"]) == 2 and record["feasible"] <= record["searched"]
    assert sum(first["time"].values()) == pytest.approx(first["seconds"])
    assert f"{first['mfu'] * 100:.1f}%" in told(*options).stdout


def test_several_sites_are_answered_with_what_else_they_could_do() -> None:
    answer = plan_model("Llama-3-8B", "four-sites")
    assert answer.record["sites"]["number"] == 4 and answer.record["sites"]["apart"]["speedup"] > 1
    assert any(line.startswith("semi-synchronous, with inner_steps") for line in answer.lines)
    assert plan_model("nanoGPT-124M", "H100:8").record["sites"] is None


def test_failures_of_a_cluster() -> None:
    shown = plan_fleet("llama3-h100", "h100-1024")
    assert 0.5 < shown.record["run"]["goodput"]["mean"] <= 1
    assert any(line.startswith("checkpoint every") for line in shown.lines)
    assert {"synchronous", "elastic", "semi-synchronous"} <= set(shown.record["sizes"]["modes"])


def test_a_goal_gives_settings_that_load(tmp_path: Path) -> None:
    from tenfold.planner.codesign.goal import example_goal_text

    goal = tmp_path / "goal.toml"
    goal.write_text(example_goal_text("llama3-8b-cost"), encoding="utf-8")
    shown = plan_goal(goal, "h100-64", to=tmp_path / "out")
    assert shown.record["best"][0]["days"] > 0
    assert load_campaign(tmp_path / "out").model.depth == 32
    assert "--num-layers 32" in (tmp_path / "out" / "megatron.txt").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "torchtitan.toml").exists() and (tmp_path / "out" / "plan.html").exists()


def test_rows_of_ones_own(tmp_path: Path) -> None:
    rows = written(tmp_path, ROW, ROW | {"id": "8", "tokens_s_gpu": ""})
    run = told("check", str(rows), "--json")
    record = json.loads(run.stdout)
    assert [each["row"] for each in record["rows"]] == ["7", "8"] and record["families"][0]["time"]["rows"] == 1


def small(**options: Any) -> PlanAnswer:
    """Layouts of a small model on a small cluster, but for `options`."""
    return plan_model(**{"model": "Llama-3-8B", "cluster": "h100-64", **options})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (partial(small, model="Lama-3-8B"), "did you mean 'Llama-3-8B'"),
        (partial(small, cluster="nowhere"), "no such file and no example"),
        (partial(small, cluster="H100-SXM:0"), "at least 1 and at most 100,000,000"),
        (partial(small, cluster="missing.toml"), "missing.toml"),
        (partial(small, batch_tokens=1000), "not a multiple of the context"),
        (partial(small, precision="int3"), "allowed are fp32"),
        (partial(small, precision="fp4"), "no published peak in fp4"),
        (partial(small, model="Llama-3.1-405B", cluster="H100-SXM:8"), "nothing fits"),
        (partial(small, simulate="nothing"), "fleet 'nothing': no such file and no profile"),
        (partial(plan_fleet, "nothing", "h100-64"), "fleet 'nothing': no such file and no profile"),
        (partial(plan_check, Path("none.csv")), "cannot be read"),
        (partial(plan_check, Path("none.csv"), held_out="row"), "allowed are shape, source, scale"),
        (partial(plan_goal, Path("none.toml"), "h100-64"), "no such file"),
    ],
)
def test_bad_input_is_one_line(asked: Callable[[], PlanAnswer], words: str) -> None:
    with pytest.raises(InputError) as error:
        asked()
    assert words in str(error.value) and "\n" not in str(error.value)


def test_bad_input_exits_with_2_and_says_nothing_else(tmp_path: Path) -> None:
    run = told("model", "Lama-3-8B", "--cluster", "h100-64", directory=tmp_path)
    assert run.returncode == 2 and run.stdout == "" and len(run.stderr.strip().splitlines()) == 1


def test_a_cluster_that_cannot_be_is_named_with_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('name = "x"\naccelerator = "H100-SXM"\ndevices = 12\nnode_devices = 8\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"cluster\.toml.*(devices|node_devices)"):
        plan_model("Llama-3-8B", str(path))


def test_interrupted_in_the_middle_it_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    from tenfold.planner.codesign.goal import example_goal_text

    goal = tmp_path / "goal.toml"
    goal.write_text(example_goal_text("loss-30-days"), encoding="utf-8")
    words = ["plan", "goal", str(goal), "--cluster", "h100-1024", "--to", "out"]
    run = warm.start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert run.stderr is not None
    seen = run.stderr.read(10)  # progress has begun
    os.kill(run.pid, signal.SIGINT)
    _, rest = run.communicate()
    assert run.returncode == 130 and "interrupted" in seen + rest
    assert not (tmp_path / "out").exists()
