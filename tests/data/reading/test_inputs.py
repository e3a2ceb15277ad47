"""Files here and at a URL: what is no file is refused at once, S3 is read as a folder is."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from pyarrow import parquet

from tenfold.core.errors import InputError
from tenfold.data import audit, sources_of
from tenfold.data.listing import expand_paths
from tenfold.data.reading.inputs import InputFile, is_url, list_url
from tests.data.test_build import build, training_texts
from tests.data.test_sources import lines
from tests.data.texts import library_texts, small_data, write_texts

BUCKET = "texts"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A bucket of a local S3 server, and s3fs told of it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()  # those of another server
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    server.stop()


def put(client: object, **contents: bytes) -> None:
    for name, content in contents.items():
        client.put_object(Bucket=BUCKET, Key=name.replace("__", "/").replace("_", "."), Body=content)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_corpus_from_s3_is_that_of_the_same_files_here(bucket: object, tmp_path: Path) -> None:
    here = write_texts(tmp_path / "texts", library_texts(25))
    for path in here.iterdir():
        bucket.put_object(Bucket=BUCKET, Key=f"all/{path.name}", Body=path.read_bytes())  # type: ignore[attr-defined]
    local, remote = tmp_path / "local", tmp_path / "remote"
    local.mkdir()
    remote.mkdir()
    ours = build(small_data(here), local)
    theirs = build(small_data(here, sources=[{"kind": "files", "paths": [f"s3://{BUCKET}/all"]}]), remote)
    assert training_texts(remote / "data", theirs) == training_texts(local / "data", ours)
    assert audit(remote / "data").ok
    assert build(small_data(here, sources=[{"kind": "files", "paths": [f"s3://{BUCKET}/all"]}]), remote) == theirs


@pytest.mark.slow
def test_of_s3_too_a_source_takes_what_is_of_its_kind(bucket: object, tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ["a b c"]}), tmp_path / "a.parquet")
    put(bucket, mix__a_txt=b"plain", mix__b_jsonl_gz=gzip.compress(lines()), mix__c_dat=lines(), mix___hidden=b"x")
    put(bucket, mix__d_parquet=(tmp_path / "a.parquet").read_bytes())
    url = f"s3://{BUCKET}/mix"
    found = {kind: expand_paths([url], tmp_path, kind, "k", "text") for kind in ("files", "jsonl", "parquet")}
    names = {kind: [Path(file.name).name for file in files] for kind, files in found.items()}
    assert names == {"files": ["a.txt"], "jsonl": ["b.jsonl.gz", "c.dat"], "parquet": ["d.parquet"]}
    assert [source["kind"] for source in sources_of(url)] == ["files", "jsonl", "parquet"]
    before = list_url(f"{url}/*.txt", "k")
    put(bucket, mix__a_txt=b"other")
    assert [file.fingerprint(tmp_path) for file in before] != [
        file.fingerprint(tmp_path) for file in list_url(f"{url}/*.txt", "k")
    ]


@pytest.mark.slow
def test_what_is_not_at_a_url_is_one_line(bucket: object, tmp_path: Path) -> None:
    for url in (f"s3://{BUCKET}/nothing", "s3://no-such-bucket/texts", "nosuchprotocol://x"):
        with pytest.raises(InputError, match=url):
            expand_paths([url], tmp_path, "files", "data.sources.paths")


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a FIFO"), InputFile(str(tmp_path / "pipe"), 0, 0).opened():
        pass
    with pytest.raises(InputError, match=r"pipe: a FIFO \(named pipe\), not a file; k takes"):
        expand_paths(["pipe"], tmp_path, "files", "k")


def test_urls_are_told_from_paths() -> None:
    assert is_url("s3://bucket/a") and is_url("memory://x")
    assert not is_url("a/b://c") and not is_url("C:/x") and not is_url("texts")
