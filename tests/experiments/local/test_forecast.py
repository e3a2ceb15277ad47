"""The forecast adds up, refuses what it knows nothing about, and is of the size of what is measured."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tenfold.core.errors import InputError
from tenfold.experiments.local import calibration
from tenfold.experiments.local.calibration import Probe, ProbeShape, calibrate, time_probes
from tenfold.experiments.local.forecast import forecast_local
from tests.experiments.local.small import FEW, measured_calibration, shape, small_calibration, train
from tests.waiting import until

MEASURE = (
    "import sys; from tenfold.machine import resident_bytes, peak_resident_bytes; "
    "from tenfold.experiments.local.calibration import Probe, ProbeShape; "
    "from tests.experiments.local.small import shape, train; "
    "before = resident_bytes(); model = shape(4, 128, 128); "
    "probe = Probe(ProbeShape(model, 1000, (16,), train(2048)), 1); [probe.step() for _ in range(4)]; "
    "print(peak_resident_bytes() - before)"
)


def test_parts_sum_to_the_whole() -> None:
    found = forecast_local(shape(), train(), 300, small_calibration())
    assert sum(share.seconds for share in found.shares) == pytest.approx(found.seconds)
    assert found.interval[0] < found.seconds < found.interval[1]
    assert found.memory_interval[0] < found.memory.total < found.memory_interval[1]
    assert found.tokens_per_second == pytest.approx(512 / found.seconds)
    assert {share.phase for share in found.shares} == {"forward", "backward", "update"}
    assert any("attention" in line for line in found.lines())
    assert any("activations" in line for line in found.lines())


def test_more_of_anything_takes_longer_and_more_memory() -> None:
    known = small_calibration()
    base = forecast_local(shape(), train(), 300, known)
    for more in (
        forecast_local(shape(depth=3), train(), 300, known),
        forecast_local(shape(width=128), train(), 300, known),
        forecast_local(shape(), train(1024), 300, known),
        forecast_local(shape(), train(), 3000, known),
    ):
        assert more.seconds > base.seconds
        assert more.memory.total > base.memory.total


def test_a_busy_calibration_says_so_and_widens_the_interval() -> None:
    known = small_calibration()
    busy = replace(known, others=0.5)
    assert known.warnings() == []
    assert "50%" in busy.warnings()[0]
    assert busy.uncertainty > known.uncertainty


def test_the_step_is_of_the_size_that_is_measured() -> None:
    """Loosely, since three probes are few; and of a moment in which others leave probes and step the same speed.

    benchmarks/local_plan.py measures closely.
    """
    model = shape(3, 80, 96)
    probe = Probe(ProbeShape(model, 700, (10,), train(960)), threads=1)
    probe.step()

    def is_near() -> bool:
        forecast = forecast_local(model, train(960), 700, measured_calibration())
        return 1 / 3 < forecast.seconds / min(probe.step() for _ in range(5)) < 3

    until(is_near)


@pytest.mark.skipif(sys.platform != "linux", reason="the heap is modelled after glibc")
def test_memory_is_what_a_real_process_takes() -> None:
    forecast = forecast_local(shape(4, 128, 128), train(2048), 1000, small_calibration())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, env=environment)
    assert forecast.memory.added == pytest.approx(int(done.stdout), rel=0.25)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"compile": "on"}, "train.compile"),
        ({"precision": "bf16"}, "train.precision"),
        ({"batch_tokens": 100}, "train.batch_tokens = 100: not a multiple of model.context 64"),
    ],
)
def test_what_is_not_known_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        forecast_local(shape(), train().model_copy(update=changed), 300, small_calibration())


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(InputError, match=r"train\.threads = 1000"):
        calibrate(1000)


def test_a_calibration_is_kept_and_measured_again_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(calibration, "time_probes", lambda threads: time_probes(threads, FEW[:1]))
    told: list[str] = []
    first = calibrate(1, say=told.append)
    assert calibrate(1, say=told.append) == first
    assert len(told) == 1
    kept = tmp_path / "tenfold" / "local_plan.json"
    kept.write_text(json.dumps({key: {} for key in json.loads(kept.read_text())}))  # not whole: measured again
    assert calibrate(1, again=False).measured_at > first.measured_at
