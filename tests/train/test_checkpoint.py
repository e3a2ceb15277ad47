"""Checkpoints: bit for bit, atomic under SIGKILL, damage noticed, on a folder and on S3."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
import torch
from fsspec.core import url_to_fs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from torch import Tensor

from tenfold.core.errors import InputError, TenfoldError
from tenfold.train.checkpoint import Checkpointer, CheckpointState, weights_digest


def make_tensors(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "model/matrix": torch.randn(17, 9, generator=generator),
        "model/half": torch.randn(5, generator=generator).to(torch.bfloat16),
        "optimizer/step": torch.tensor(float(seed)),
        "optimizer/count": torch.tensor([seed, seed + 1]),
    }


def state(step: int) -> CheckpointState:
    return CheckpointState(make_tensors(step), step, step * 8, {"identity": {"config": {}, "step": step}})


def empty_like(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def save(url: str | Path, *steps: int, **options: object) -> Checkpointer:
    checkpointer = Checkpointer(url, keep_last=2, **options)  # type: ignore[arg-type]
    for step in steps:
        checkpointer.save(state(step))
    checkpointer.wait()
    return checkpointer


def assert_holds(checkpointer: Checkpointer, step: int) -> None:
    found = checkpointer.latest().checkpoint
    assert found is not None and found.step == step and found.manifest.next_sample == step * 8
    loaded = empty_like(make_tensors(step))
    checkpointer.load(found, loaded)
    assert weights_digest(loaded) == weights_digest(make_tensors(step))


def test_what_is_loaded_equals_what_was_saved_bit_for_bit(tmp_path: Path) -> None:
    assert_holds(save(tmp_path, 3), 3)


def test_the_newest_are_kept_and_every_nth(tmp_path: Path) -> None:
    save(tmp_path, *range(1, 9), keep_every=3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"step-{step:08d}" for step in (3, 6, 7, 8)]


def test_a_save_does_not_see_what_training_does_next(tmp_path: Path) -> None:
    tensors = make_tensors(1)
    checkpointer = Checkpointer(tmp_path, keep_last=1)
    checkpointer.save(CheckpointState(tensors, 1, 8, {}))
    for tensor in tensors.values():
        tensor.zero_()
    checkpointer.wait()
    assert_holds(checkpointer, 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_the_newest_falls_back_to_the_one_before(tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path, ignore_errors=True)
    save(tmp_path, 1, 2)
    newest = tmp_path / "step-00000002"
    path = data.draw(st.sampled_from(sorted(newest.iterdir())))
    content = bytearray(path.read_bytes())
    match data.draw(st.sampled_from(["flip", "truncate", "delete"])):
        case "flip":
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            path.write_bytes(content)
        case "truncate":
            path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        case "delete":
            path.unlink()
    checkpointer = Checkpointer(tmp_path, keep_last=2)
    needed = path.name != "rank-00000.part.json"  # a rank's own note is not part of what is read back
    assert bool(checkpointer.latest().damaged) == needed
    assert_holds(checkpointer, 1 if needed else 2)


def test_nan_is_never_saved(tmp_path: Path) -> None:
    tensors = make_tensors(2)
    tensors["model/matrix"][3, 4] = float("nan")
    checkpointer = save(tmp_path, 1)
    checkpointer.save(CheckpointState(tensors, 2, 16, {}))
    with pytest.raises(TenfoldError, match=r"model/matrix holds NaN or infinity, so nothing was saved.*step-00000001"):
        checkpointer.wait()
    assert_holds(checkpointer, 1)


def test_a_damaged_checkpoint_set_aside_is_not_one_of_those_kept(tmp_path: Path) -> None:
    checkpointer = save(tmp_path, 30, 40)
    for step in (30, 40):
        (tmp_path / f"step-000000{step}" / "rank-00000.safetensors").write_bytes(b"damaged")
    for damaged in checkpointer.latest().damaged:
        assert Path(checkpointer.set_aside(damaged)).is_dir()
    save(tmp_path, 5, 10)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["damaged-step-00000030", "damaged-step-00000040", "step-00000005", "step-00000010"]
    assert_holds(checkpointer, 10)


def test_looking_at_checkpoints_leaves_a_save_under_way_alone(tmp_path: Path) -> None:
    under_way = tmp_path / ".tmp-step-00000009"
    save(tmp_path, 1)
    under_way.mkdir()
    reader = Checkpointer(tmp_path, keep_last=1)
    assert reader.latest().checkpoint is not None and under_way.exists()
    reader.prepare()
    assert not under_way.exists()


def test_other_names_beside_checkpoints_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "step-00000007.bak").mkdir(parents=True)
    assert_holds(save(tmp_path, 1, 2, 3), 3)


def test_an_object_store_that_cannot_be_reached_is_one_line() -> None:
    """In a process of its own: what s3fs leaves open at its end would fail another test."""
    program = """
from tenfold.train.checkpoint import Checkpointer
retries = {"retries": {"max_attempts": 1}}
options = {"endpoint_url": "http://127.0.0.1:9", "key": "k", "secret": "s", "config_kwargs": retries}
Checkpointer("s3://bucket/run", keep_last=1, storage_options=options).prepare()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert "InputError: s3://bucket/run: checkpoints cannot be written here (EndpointConnectionError" in last


def test_another_shape_is_refused(tmp_path: Path) -> None:
    checkpointer = save(tmp_path, 1)
    found = checkpointer.latest().checkpoint
    assert found is not None
    with pytest.raises(InputError, match=r"has shape \[17, 9\], this model needs \[2, 2\]"):
        checkpointer.load(found, {"model/matrix": torch.zeros(2, 2)})


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make this folder for checkpoints"):
        Checkpointer(tmp_path / "file" / "inside", keep_last=1)


def test_a_place_that_cannot_be_written_or_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer = save(tmp_path / "here", 1)

    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"checkpoints cannot be written here \(Permission denied\)"):
        checkpointer.prepare()
    shutil.rmtree(tmp_path / "here")
    with pytest.raises(InputError, match=r"checkpoints cannot be read here \(No such file or directory\)"):
        checkpointer.latest()


def test_one_asked_for_by_its_step(tmp_path: Path) -> None:
    checkpointer = save(tmp_path, 1, 2)
    found = checkpointer.at(1)
    assert found is not None and found.step == 1 and checkpointer.at(7) is None
    (tmp_path / "step-00000001" / "rank-00000.safetensors").write_bytes(b"damaged")
    assert checkpointer.at(1) is None
    checkpointer.clear()
    assert checkpointer.latest().checkpoint is None


def test_a_tensor_the_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    checkpointer = save(tmp_path, 1)
    found = checkpointer.latest().checkpoint
    assert found is not None
    with pytest.raises(InputError, match="has no tensor 'model/other'; it was saved by another model"):
        checkpointer.load(found, {"model/other": torch.zeros(2)})


def test_a_save_tells_when_it_is_done_and_not_when_it_failed(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path, keep_last=1)
    assert not checkpointer.has_saved and not checkpointer.is_busy
    checkpointer.save(state(1))
    while checkpointer.is_busy:
        time.sleep(0.01)
    assert checkpointer.has_saved
    checkpointer.save(CheckpointState({"bad": torch.tensor([float("inf")])}, 2, 16, {}))
    while checkpointer.is_busy:
        time.sleep(0.01)
    assert not checkpointer.has_saved
    with pytest.raises(TenfoldError, match="bad holds NaN or infinity"):
        checkpointer.wait()


SAVE_FOR_EVER = """
import sys, itertools
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.train.test_checkpoint import state
from tenfold.train.checkpoint import Checkpointer
checkpointer = Checkpointer(Path({folder!r}), keep_last=2)
found = checkpointer.latest()
assert not found.damaged, found.damaged
first = found.checkpoint.step + 1 if found.checkpoint else 1
print("ready", flush=True)
for step in itertools.count(first):
    checkpointer.save(state(step))
"""


@pytest.mark.slow
def test_sigkill_at_any_instant_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    reached = 0
    for trial in range(5):
        script = SAVE_FOR_EVER.format(root=root, folder=str(tmp_path))
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(0.2 + 0.037 * trial)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        checkpointer = Checkpointer(tmp_path, keep_last=2)
        found = checkpointer.latest()
        assert found.checkpoint is not None and not found.damaged
        assert found.checkpoint.step > reached
        reached = found.checkpoint.step
        assert_holds(checkpointer, reached)


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Path:
    """A file system of 256 KiB."""
    if not can_mount():
        pytest.skip("no root: cannot mount a small tmpfs to fill")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_the_last_good_checkpoint(tiny_disk: Path) -> None:
    checkpointer = save(tiny_disk, 1)
    big = {"model/big": torch.zeros(200_000)}
    checkpointer.save(CheckpointState(big, 2, 16, {}))
    with pytest.raises(TenfoldError, match=r"\(No space left on device\); the last good one is .*00000001; make room"):
        checkpointer.wait()
    assert [path.name for path in tiny_disk.iterdir()] == ["step-00000001"]
    assert_holds(Checkpointer(tiny_disk, keep_last=2), 1)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint of a real HTTP server that speaks S3."""
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="runs")
    yield endpoint
    server.stop()


def test_checkpoints_on_s3(s3: str) -> None:
    options = {"storage_options": {"endpoint_url": s3}}
    with save("s3://runs/one", 1, 2, 3, **options):
        pass
    with Checkpointer("s3://runs/one", keep_last=2, **options) as checkpointer:  # type: ignore[arg-type]
        assert_holds(checkpointer, 3)
    client = boto3.client("s3", endpoint_url=s3)
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="runs")["Contents"]]
    assert {key.split("/")[1] for key in keys} == {"step-00000002", "step-00000003"}
    weights = next(key for key in keys if key.startswith("one/step-00000003") and key.endswith(".safetensors"))
    client.put_object(Bucket="runs", Key=weights, Body=b"damaged")
    with Checkpointer("s3://runs/one", keep_last=2, **options) as checkpointer:  # type: ignore[arg-type]
        found = checkpointer.latest()
    assert found.checkpoint is not None and found.checkpoint.step == 2 and len(found.damaged) == 1


# A place that is shared with others


def of_campaign(url: str | Path, name: str, *steps: int, keep_last: int = 1) -> None:
    """A campaign's save of these steps."""
    with Checkpointer(url, keep_last=keep_last) as checkpointer:
        checkpointer.prepare(name)
        for step in steps:
            checkpointer.save(state(step))
        checkpointer.wait()


def assert_newest(url: str | Path, step: int) -> None:
    with Checkpointer(url, keep_last=1) as checkpointer:
        assert_holds(checkpointer, step)


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    return tmp_path / "shared" if request.param == "folder" else f"memory://{tmp_path}/shared"


def test_a_place_is_one_campaigns(place: str | Path) -> None:
    of_campaign(place, "long", 100, 200)
    with pytest.raises(InputError, match=r"campaign 'long' keeps its checkpoints here; set checkpoint.url to a place"):
        of_campaign(place, "short", 5, 10)
    assert_newest(place, 200)
    of_campaign(place, "long", 300)
    assert_newest(place, 300)


def test_two_campaigns_that_begin_at_once_do_not_mix(place: str | Path) -> None:
    with Checkpointer(place, keep_last=1) as one, Checkpointer(place, keep_last=1) as two:
        one.prepare("one")
        with pytest.raises(InputError, match="campaign 'one' keeps"):
            two.prepare("two")
        one.save(state(3))
        one.wait()
    assert_newest(place, 3)


def test_checkpoints_of_an_older_version_are_gone_on_with(place: str | Path) -> None:
    save(place, 3).__exit__()  # without an owner
    of_campaign(place, "mine", 4, 5)
    with pytest.raises(InputError, match="campaign 'mine' keeps"):
        of_campaign(place, "other", 6)


def test_the_same_step_again_takes_the_place_of_the_one_before(place: str | Path) -> None:
    of_campaign(place, "mine", 3)
    of_campaign(place, "mine", 3)
    assert_newest(place, 3)


FOREIGN = (
    "step-00000001/model.bin",
    "step-00000009/notes.txt",
    ".tmp-step-00000002/draft",
    ".tmp-step-x/rank-00000.txt",
)


def test_what_others_keep_beside_checkpoints_stays(place: str | Path) -> None:
    where, root = url_to_fs(str(place))
    for name in (*FOREIGN, ".probe"):
        where.makedirs(f"{root}/{name}".rsplit("/", 1)[0], exist_ok=True)
        where.pipe_file(f"{root}/{name}", b"precious")
    of_campaign(place, "mine", 3, 4, 5, 6)
    with Checkpointer(place, keep_last=1) as checkpointer:
        assert checkpointer.latest().damaged == []
    for name in (*FOREIGN, ".probe"):
        assert where.cat_file(f"{root}/{name}") == b"precious", name
    assert_newest(place, 6)


def test_what_others_put_into_a_checkpoint_outlives_it(place: str | Path) -> None:
    where, root = url_to_fs(str(place))
    of_campaign(place, "mine", 3)
    where.pipe_file(f"{root}/step-00000003/notes.txt", b"precious")
    of_campaign(place, "mine", 4)
    assert where.cat_file(f"{root}/step-00000003/notes.txt") == b"precious"
    with Checkpointer(place, keep_last=1) as checkpointer:
        found = checkpointer.latest()
    assert found.checkpoint is not None
    assert (found.checkpoint.step, found.damaged) == (4, [])


def test_a_password_is_in_no_line_about_a_place() -> None:
    url = "https://me:hidden@127.0.0.1:1/bucket?signature=hidden"
    with pytest.raises((InputError, TenfoldError)) as caught, Checkpointer(url, keep_last=1) as checkpointer:
        checkpointer.prepare("mine")
    assert "hidden" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
