"""Any question to the planner is answered, or refused in one clear line; the answer is valid JSON of narrow lines."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenfold.campaign import plan_check, plan_fleet, plan_goal, plan_model
from tenfold.campaign.plan.answer import WIDTH, PlanAnswer, within_width
from tenfold.cli.options import finite
from tenfold.core.errors import InputError
from tenfold.planner.codesign.known import known_models
from tenfold.planner.hardware.accelerator import accelerators
from tests import warm

NAMES = [chip.name for chip in accelerators()]
MODELS = [model.name for model in known_models()]
SMALL = "nanoGPT-124M"
DEVICES = (
    st.integers(1, 10**6) | st.integers(0, 19).map(lambda power: 2**power) | st.sampled_from([97, 100, 1000, 3000])
)
OWN = """name = "own"
devices = {devices}
[device]
name = "MyGPU"
bf16_tflops = {peak}
memory_gb = {memory}
memory_gb_per_s = 1000
link = "NVLink4"
link_gb_per_s = 200
domain_devices = {domain}
nic_gb_per_s = {nic}
"""
GOAL = 'aim = "{aim}"\ntokens = 1e10\n[model]\nname = "{model}"\n[batch]\ntokens = {batch}\n'


@st.composite
def clusters(draw: st.DrawFn) -> str:
    """ACCELERATOR:DEVICES, or the TOML of a device of one's own."""
    devices = draw(DEVICES)
    if draw(st.booleans()):
        return f"{draw(st.sampled_from(NAMES))}:{devices}"
    return OWN.format(
        devices=devices,
        peak=draw(st.sampled_from([1, 100, 1000])),
        memory=draw(st.sampled_from([8, 80, 200])),
        domain=draw(st.integers(1, 80)),
        nic=draw(st.sampled_from([0, 25])),
    )


def found(text: str, folder: Path) -> str:
    """The cluster's text as the planner takes it."""
    if "\n" not in text:
        return text
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def answered(ask: Callable[[], PlanAnswer]) -> PlanAnswer | None:
    """The answer, checked; None for a refusal in one line."""
    try:
        answer = ask()
    except InputError as error:
        assert str(error) and "\n" not in str(error)
        return None
    json.loads(json.dumps(finite(answer.record), allow_nan=False))
    assert answer.lines and all(len(line) <= WIDTH and "\n" not in line for line in answer.lines)
    return answer


ANY = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANY
@given(text=clusters(), model=st.sampled_from(MODELS), batch=st.sampled_from([1, 8, 1000, 4096]))
def test_layouts_of_any_model_on_any_cluster(tmp_path: Path, text: str, model: str, batch: int) -> None:
    answered(lambda: plan_model(model, found(text, tmp_path), batch_tokens=batch * 32768))


@ANY
@given(text=clusters(), model=st.sampled_from(MODELS))
def test_layouts_with_failures(tmp_path: Path, text: str, model: str) -> None:
    answered(lambda: plan_model(model, found(text, tmp_path), batch_tokens=2**25, simulate="llama3-h100"))


@ANY
@given(text=clusters(), model=st.sampled_from(MODELS), batch=st.sampled_from([8, 1000]))
def test_goals(tmp_path: Path, text: str, model: str, batch: int) -> None:
    goal = tmp_path / "goal.toml"
    goal.write_text(GOAL.format(aim="time", model=model, batch=batch * 32768), encoding="utf-8")
    answered(lambda: plan_goal(goal, found(text, tmp_path)))


@settings(ANY, max_examples=4)
@given(text=clusters())
def test_fleets(tmp_path: Path, text: str) -> None:
    answered(lambda: plan_fleet("llama3-h100", found(text, tmp_path)))


@pytest.mark.parametrize("devices", ["²", "10^20", "1" + "0" * 20, "-3", "1e9", "", " ", "８", "12 34"])
def test_a_number_of_devices_that_is_none_is_one_line(devices: str) -> None:
    with pytest.raises(InputError, match="devices") as error:
        plan_model(SMALL, f"H100:{devices}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("batch", [10**30, 2**80, 1024 * (10**8 + 1), 1023])
def test_a_batch_that_cannot_be_is_one_line(batch: int) -> None:
    with pytest.raises(InputError, match="batch"):
        plan_model(SMALL, "H100:8", batch_tokens=batch)


def test_idle_devices_are_said() -> None:
    answer = plan_model("Llama-3-8B", "H100:100")
    assert any("4 of 100 devices stay idle" in line for line in answer.lines) and answer.record["idle_devices"] == 4
    answer = plan_model("Llama-3-8B", "H100:1,000")
    idle = answer.record["idle_devices"]
    assert 0 < idle < 500 and any(f"{idle} of 1,000 devices stay idle" in line for line in answer.lines)


def test_an_accelerator_without_bf16_is_planned_in_what_it_has() -> None:
    answer = plan_model(SMALL, "V100:8", batch_tokens=8 * 1024)
    assert answer.record["asked"]["precision"] == "fp16" and any("no published peak in bf16" in x for x in answer.lines)
    with pytest.raises(InputError, match="no published peak in bf16"):
        plan_model(SMALL, "V100:8", batch_tokens=8 * 1024, precision="bf16")


def test_a_shape_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text("tokens = 2e12\n[model]\nlayers = 24\nwidth = 2048\nheads = 16\ncontext = 4096\n", encoding="utf-8")
    answer = plan_model(str(own), "H100:8", batch_tokens=2**20)
    assert answer.record["asked"]["model"] == "mine" and any("2 T tokens" in line for line in answer.lines)
    for wrong, words in (
        ("[model]\nlayers = 1000000000\nwidth = 64\nheads = 1\n", "layers"),
        ("[model]\nlayers = 2\nwidth = 64\nheads = 31\n", "heads = 31"),
        ("[model]\nlayers = 2\nwidth = 64\nheads = 2\nmlp_width = 0\n", "mlp_width"),
        ("[model]\nlayers = 2\nwidth = 64\nheads = 2\nvocabulary = 0\n", "vocabulary"),
        ("[modell]\n", "modell"),
    ):
        own.write_text(wrong, encoding="utf-8")
        with pytest.raises(InputError, match=words):
            plan_model(str(own), "H100:8")


def test_goal_examples_are_taken_by_name() -> None:
    assert plan_goal(Path("llama3-405b"), "llama3-16k").record["goal"]["model"]["name"] == "Llama-3-405B"


def test_everything_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'name = ""\ndevices = 0\nnode_devices = -1\nfabricc = "x"\nprice_dollars_per_device_hour = "much"\n',
        encoding="utf-8",
    )
    with pytest.raises(InputError) as error:
        plan_model(SMALL, str(own))
    said = str(error.value)
    assert all(key in said for key in ("name", "devices", "node_devices", "fabricc", "price_dollars_per_device_hour"))
    assert "more)" not in said and "\n" not in said


def test_a_table_without_an_answer_is_one_line(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("layers,hidden,heads,seq,gbs_seqs,hardware,n_gpus\n,,,,,,\n1,,,,,,\n", encoding="utf-8")
    assert answered(lambda: plan_check(rows)) is None


def test_long_lines_are_wrapped_at_spaces() -> None:
    assert within_width(["a " * 100]) == [("a " * 60).strip(), "  " + ("a " * 40).strip()]
    assert within_width(["short"]) == ["short"]


@pytest.mark.slow
def test_the_machine_at_hand_written_by_doctor_can_be_planned_for(tmp_path: Path) -> None:
    cluster = tmp_path / "this.toml"
    warm.run(["doctor", str(tmp_path), "--write", str(cluster)], check=True)
    asked = ["plan", "model", SMALL, "--cluster", str(cluster), "--batch-tokens", "8192", "--json"]
    done = warm.run(asked, check=True)
    assert json.loads(done.stdout)["layouts"][0]["seconds"] > 0
