"""What is measured is plausible, what is remembered is used, what cannot be done is said."""

import json
from pathlib import Path

import pytest
import torch

from tenfold.core.errors import InputError
from tenfold.machine import describe_machine, measured_peak

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tenfold" / "peak.json"


def test_doctor_measures_this_machine(tmp_path: Path) -> None:
    description = describe_machine(tmp_path)
    assert description.deterministic
    assert all(1e8 < flops < 1e16 for flops in description.peak_flops.values())
    assert description.memory_bandwidth > 1e8
    assert description.disk_write_bandwidth > 1e5
    assert json.loads(json.dumps(description.to_dict()))["environment"]["torch"] == torch.__version__
    assert len(description.lines()) == 8


def test_doctor_says_when_a_directory_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        describe_machine(tmp_path / "nowhere")


def test_the_peak_is_measured_once_and_remembered(own_cache: Path) -> None:
    first = measured_peak(CPU, 1, torch.float32)
    assert measured_peak(CPU, 1, torch.float32) == first
    own_cache.write_text("not json")
    assert measured_peak(CPU, 1, torch.float32).flops > 0


def test_a_home_that_cannot_be_written_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert measured_peak(CPU, 1, torch.float32).flops > 0
