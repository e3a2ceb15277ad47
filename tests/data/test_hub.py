"""A data set streamed from a hub over HTTP: whole, over a bad connection, and by a build that is killed."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pyarrow
import pytest
from pyarrow import parquet

from tenfold.data.holdouts import PACKAGE_ROOT
from tests.data.hub import Hub, serving
from tests.data.test_build import build
from tests.data.texts import library_texts, small_data

TEXTS = library_texts(45, 1_000, 12_000)
CARD = """---
configs:
- {config_name: web, data_files: [{split: train, path: "web/*.parquet"}]}
---
"""
READ = """
import hashlib, sys
from pathlib import Path
from tenfold.config import Read, Source
from tenfold.core import InputError
from tenfold.data.sources import read_source
for line in sys.stdin:
    name, subset = line.split()
    try:
        found = read_source(Source(kind="hf", dataset=name, subset=subset), "s", Path(), Read(), None)
        print(hashlib.sha256("".join(each.text for each in found).encode()).hexdigest(), flush=True)
    except InputError as error:
        print(error, flush=True)
"""
BUILD = """
import sys
from pathlib import Path
from unittest import mock
from tenfold.data.holdouts import PACKAGE_ROOT
from tests.data.test_build import build
from tests.data.texts import small_data
source = {"kind": "hf", "name": "texts", "dataset": "someone/set", "subset": "web"}
with mock.patch("tenfold.data.holdouts.project_files", lambda: [PACKAGE_ROOT / "__init__.py"]):
    print(build(small_data(Path(), sources=[source]), Path(sys.argv[1])).digest)
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    pytest.importorskip("datasets")
    (tmp_path / "set" / "web").mkdir(parents=True)
    (tmp_path / "set" / "README.md").write_text(CARD)
    for number in range(3):
        rows = pyarrow.table({"text": TEXTS[number * 15 : number * 15 + 15]})
        parquet.write_table(rows, tmp_path / "set" / "web" / f"{number}.parquet", row_group_size=5)
    with serving(tmp_path / "set", "someone/set") as hub:
        yield hub


def program(hub: Hub, code: str, *arguments: str) -> "subprocess.Popen[str]":
    """A process that takes this hub for the one it streams from."""
    home = str(hub.repository.parent / "home")
    env = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": home, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_bad_connection_changes_nothing_and_what_is_not_there_is_one_line(hub: Hub) -> None:
    whole = hashlib.sha256("".join(TEXTS).encode()).hexdigest()
    with program(hub, READ) as reader:

        def read(name: str) -> str:
            assert reader.stdin and reader.stdout
            reader.stdin.write(name + "\n")
            reader.stdin.flush()
            return reader.stdout.readline().strip()

        assert read("someone/set web") == whole
        before, hub.sent, hub.cut, hub.refuse = sum(hub.sent.values()), {}, 2, 2
        assert read("someone/set web") == whole
        assert (hub.cut, hub.refuse) == (0, 0) and sum(hub.sent.values()) >= before  # what was cut off was asked again
        assert "data set someone/other/web/train: cannot be read (404 Client Error. Repository Not" in read(
            "someone/other web"
        )
        assert "cannot be read (BuilderConfig 'films' not found. Available: ['web'])" in read("someone/set films")


@pytest.mark.slow
def test_a_build_that_is_killed_while_it_streams_ends_in_the_same_corpus(hub: Hub, tmp_path: Path) -> None:
    hub.held = "web/2.parquet"
    with program(hub, BUILD, str(tmp_path / "streamed")) as killed:
        assert hub.asked_for_held.wait(300)
        killed.kill()
    hub.released.set()
    with program(hub, BUILD, str(tmp_path / "streamed")) as resumed:
        digest = resumed.communicate()[0].strip()
    source = {"kind": "parquet", "name": "texts", "paths": [str(tmp_path / "set" / "web")]}
    with mock.patch("tenfold.data.holdouts.project_files", lambda: [PACKAGE_ROOT / "__init__.py"]):
        assert build(small_data(Path(), sources=[source]), tmp_path / "local").digest == digest
    assert json.loads((tmp_path / "streamed" / "data" / "manifest.json").read_text())["sources"][0]["name"] == "texts"
