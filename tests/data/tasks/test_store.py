"""Files of the work, on this machine and on an S3 server; and a build whose text and work lie there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tenfold.core import InputError
from tenfold.data.tasks.store import LocalWork, WorkFiles, open_work
from tests.data.tasks.builds import build_mixture, cut_small, write_mixture


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of an S3 server of this machine."""
    import s3fs

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("ENDPOINT_URL", f"http://{host}:{port}")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("corpora", exist_ok=True)
    yield "s3://corpora"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def check(work: WorkFiles, folder: Path) -> None:
    """What tasks ask of their files."""
    assert work.names("a") == set()
    with pytest.raises(FileNotFoundError):
        work.read("a/one")
    work.write("a/one", b"0123456789")
    work.write("a/two", b"")
    work.write("a/one", b"9876543210")
    assert work.names("a") == {"one", "two"}
    assert (work.read("a/one"), work.read("a/two")) == (b"9876543210", b"")
    assert (work.read_range("a/one", 2, 3), work.read_range("a/two", 0, 0)) == (b"765", b"")
    again = open_work(work.address)
    assert again.read("a/one") == b"9876543210"
    work.fetch("a/one", folder / "fetched" / "one")
    assert [path.name for path in (folder / "fetched").iterdir()] == ["one"]
    work.clear(first="a/two")
    work.clear(first="a/two")
    assert again.names("a") == set()


def test_files_in_a_folder(tmp_path: Path) -> None:
    check(LocalWork(tmp_path / "work"), tmp_path)
    assert not (tmp_path / "work").exists()


def test_files_at_s3(tmp_path: Path, bucket: str) -> None:
    check(open_work(f"{bucket}/work"), tmp_path)


def test_a_store_that_fsspec_does_not_know_is_named() -> None:
    with pytest.raises(InputError, match=r"data\.work: nowhere://there cannot be opened"):
        open_work("nowhere://there")


def test_text_and_work_at_s3_give_the_same_corpus(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers of this machine meet in the bucket, and in nothing else."""
    import s3fs

    write_mixture(tmp_path)
    alone = build_mixture(tmp_path, "alone", workers=1)
    cut_small(monkeypatch)
    files = s3fs.S3FileSystem()
    files.put(str(tmp_path / "more.jsonl"), "corpora/text/more.jsonl")
    there = build_mixture(tmp_path, "there", more=f"{bucket}/text/more.jsonl", workers=2, work=f"{bucket}/work")
    assert [source.shards for source in there.sources] == [source.shards for source in alone.sources]
    assert there.verify(tmp_path / "there") > 0
    assert not files.exists("corpora/work/plan.json"), "nothing is left of the plan"
