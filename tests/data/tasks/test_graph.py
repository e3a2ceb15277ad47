"""The corpus is the same to the byte whoever does the tasks, in whatever order, and however often they are killed."""

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import tenfold.data.build
from tenfold.config import Data
from tenfold.core import LOGGER
from tenfold.data import Manifest, audit, build_corpus, load_record
from tenfold.data.tasks import local
from tenfold.data.tasks.engine import Engine, TaskWatch, ThisProcess
from tests.data.tasks.builds import build_mixture, cut_small, write_mixture
from tests.data.texts import library_texts, small_data, write_texts

ROOT = Path(__file__).parents[3]
KILLS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mixture")
    write_mixture(directory)
    return directory


@pytest.fixture(scope="module")
def in_one_part(folder: Path) -> Manifest:
    """Built at once, by this process alone: so little text is not worth a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "MODULE", "there.is.none")
        return build_mixture(folder, "whole", workers=2)


def test_the_mixture_has_something_for_every_stage(folder: Path, in_one_part: Manifest) -> None:
    funnel = in_one_part.funnel
    kinds = ("exact_duplicates", "near_duplicates", "held_out", "contaminated", "documents_kept")
    assert all(funnel[kind] > 0 for kind in kinds) and funnel["rejected"] == {"invalid-json": 1}
    assert all(len(source.shards) > 1 for source in in_one_part.sources)
    assert audit(folder / "whole").ok


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_gives_the_same_files(
    folder: Path, in_one_part: Manifest, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_small(monkeypatch)
    place = f"workers-{workers}"
    assert build_mixture(folder, place, workers=workers) == in_one_part
    for file in ("manifest.json", "rejects.jsonl"):
        assert sorted((folder / place / file).read_bytes().splitlines()) == sorted(
            (folder / "whole" / file).read_bytes().splitlines()
        )
    assert in_one_part.verify(folder / place) > 0
    stages = {each.stage: each for each in load_record(folder / place)}
    assert stages["keep"].bytes > 0 and stages["keep"].cpu_seconds > 0 and stages["keep"].tasks > 1
    assert not list(folder.glob(".*")), "nothing is left of the work"


class Backwards:
    """Does the last task first."""

    workers = 1
    least_bytes = 0

    def run(self, address: str, token: str, stage: str, numbers: Sequence[int], watch: TaskWatch) -> None:
        ThisProcess().run(address, token, stage, sorted(numbers, reverse=True), watch)


def test_the_order_of_the_tasks_does_not_matter(
    folder: Path, in_one_part: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def backwards(data: Data) -> Iterator[Engine]:
        yield Backwards()

    cut_small(monkeypatch)
    monkeypatch.setattr(tenfold.data.build, "open_engine", backwards)
    assert build_mixture(folder, "backwards") == in_one_part


@pytest.mark.parametrize(("files", "said"), [(1, 1), (4, 0)])
def test_a_file_that_one_worker_reads_while_the_others_wait_is_named(
    files: int, said: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cut_small(monkeypatch)
    texts = library_texts(20, max_bytes=10_000)
    write_texts(tmp_path / "texts", ["\n\n".join(texts[first::files]) for first in range(files)])
    with caplog.at_level(logging.INFO, LOGGER):
        build_corpus(small_data(tmp_path / "texts", workers=2), 1, tmp_path / "data", tmp_path, lambda _: None)
    found = [line for line in caplog.messages if "is read by one of 2 workers alone" in line]
    assert len(found) == said and all("texts/0000.txt (" in line for line in found)


def done(folder: Path) -> int:
    """Tasks that a killed build left done."""
    return sum(len(names) for path, _, names in os.walk(folder / ".killed.work") if path.endswith(".done"))


def test_a_build_killed_at_any_moment_goes_on_and_ends_the_same(folder: Path, in_one_part: Manifest) -> None:
    draw, kills, before = random.Random(5), 0, 0
    command = [sys.executable, "-m", "tests.data.tasks.builds", str(folder), "2"]
    while not (folder / "killed" / "manifest.json").exists():
        with subprocess.Popen(command, cwd=ROOT) as process:
            wanted = before + draw.randint(1, 25) if kills < KILLS else sys.maxsize
            while process.poll() is None and done(folder) < wanted:
                time.sleep(0.005)
            time.sleep(draw.random() * 0.05)
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
        assert done(folder) >= before or (folder / "killed").exists(), "what is done stays done"
        before = done(folder)
    assert kills >= 2
    assert Manifest.load(folder / "killed") == in_one_part
    assert in_one_part.verify(folder / "killed") > 0
