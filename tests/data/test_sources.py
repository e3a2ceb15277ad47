"""Every kind of source on its good path, and what it makes of broken records, links and its own output."""

import gzip
import json
import os
from itertools import islice
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from tenfold.campaign import init_campaign
from tenfold.config import Read, Source, load_campaign
from tenfold.core.errors import InputError
from tenfold.data.clean import Document, Found, Reject, part_size
from tenfold.data.ingest import name_sources
from tenfold.data.listing import expand_paths
from tenfold.data.paths import walk
from tenfold.data.reading.cutting import cut_text
from tenfold.data.reading.inputs import InputFile
from tenfold.data.sources import read_source
from tests.data.test_build import build, training_texts
from tests.data.texts import library_texts, small_data, write_texts

TEXTS = [f"text number {n}, of some words " * 9 for n in range(30)]


def records(kind: str, path: Path, **more: str) -> list[Found]:
    source = Source(kind=kind, paths=[str(path)], **more)  # type: ignore[arg-type]
    return list(read_source(source, "s", path.parent, Read(), None))


def texts_in(found: list[Found]) -> list[str]:
    return [record.text for record in found if isinstance(record, Document)]


def reasons_in(found: list[Found]) -> list[str]:
    return [record.reason for record in found if isinstance(record, Reject)]


def lines(key: str = "text", texts: list[str] = TEXTS) -> bytes:
    return "".join(json.dumps({key: text}) + "\n" for text in texts).encode()


def test_json_lines_plain_gzip_and_zstd_give_the_same_texts(tmp_path: Path) -> None:
    frames = zstandard.compress(lines(texts=TEXTS[:10])) + zstandard.compress(lines(texts=TEXTS[10:]))
    for name, content in [("a.jsonl", lines()), ("a.jsonl.gz", gzip.compress(lines())), ("a.jsonl.zst", frames)]:
        (tmp_path / name).write_bytes(content)
        assert texts_in(records("jsonl", tmp_path / name)) == TEXTS


def test_parquet_gives_its_texts_and_names_broken_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": [*TEXTS, None], "id": range(31)}), path, row_group_size=7)
    found = records("parquet", path)
    assert texts_in(found) == TEXTS and reasons_in(found) == ["not-text"]
    wrong = pyarrow.array([b"good", "mañana".encode() * 9 + b"\xff\xfe\xff"], type=pyarrow.binary())
    parquet.write_table(pyarrow.table({"text": wrong.view(pyarrow.string())}), path)
    found = records("parquet", path)
    assert texts_in(found) == ["good"] and reasons_in(found) == ["invalid-utf8"]


def test_a_damaged_page_costs_its_row_group_only(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"{os.urandom(600).hex()} {n}" for n in range(40)]
    table = pyarrow.table({"text": texts})
    parquet.write_table(table, path, row_group_size=10, write_page_checksum=True, use_dictionary=False)
    start = parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start + 6_000 : start + 6_160] = bytes(160)  # past the header and its statistics
    path.write_bytes(content)
    found = records("parquet", path)
    assert texts_in(found) == texts[:10] + texts[20:] and reasons_in(found) == ["unreadable"]


@pytest.mark.slow
def test_a_local_hugging_face_data_set_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_bytes(lines("body"))
    source = Source(kind="hf", dataset=str(tmp_path / "set"), text_key="body", max_documents=12)
    assert texts_in(list(read_source(source, "s", tmp_path, Read(), None))) == TEXTS
    with pytest.raises(InputError, match="no record of this source has the key 'text'; keys there are: body"):
        list(read_source(Source(kind="hf", dataset=str(tmp_path / "set")), "s", tmp_path, Read(), None))


HUB_CARD = """---
configs:
- config_name: web
  data_files:
  - {split: train, path: "web/*.parquet"}
  - {split: test, path: "more/test.parquet"}
- config_name: books
  data_files: [{split: train, path: more/books.parquet}]
---
Two subsets, several files.
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set repository as a hub has it: a card that names subsets and splits, several files."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for folder in ("web", "more"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    (tmp_path / "set" / "README.md").write_text(HUB_CARD)
    for number in range(3):
        rows = {"text": [*TEXTS[number * 10 : number * 10 + 10], None], "id": list(range(11))}
        parquet.write_table(pyarrow.table(rows), tmp_path / "set" / "web" / f"{number}.parquet")
    parquet.write_table(pyarrow.table({"text": TEXTS[:3]}), tmp_path / "set" / "more" / "test.parquet")
    parquet.write_table(pyarrow.table({"body": TEXTS[:7]}), tmp_path / "set" / "more" / "books.parquet")
    return tmp_path / "set"


def rows_of(hub: Path, **more: object) -> list[Found]:
    source = Source(kind="hf", dataset=str(hub), **more)  # type: ignore[arg-type]
    return list(islice(read_source(source, "s", hub, Read(), None), source.max_documents))


@pytest.mark.slow
def test_subsets_and_splits_of_a_repository_are_streamed_over_all_its_files(hub: Path) -> None:
    found = rows_of(hub, subset="web")
    assert texts_in(found) == TEXTS and reasons_in(found) == ["not-text"] * 3
    assert texts_in(rows_of(hub, subset="web", split="test")) == TEXTS[:3]
    assert texts_in(rows_of(hub, subset="books", text_key="body")) == TEXTS[:7]


@pytest.mark.slow
def test_of_a_repository_no_more_is_read_than_is_asked_for(hub: Path) -> None:
    (hub / "web" / "2.parquet").write_bytes(b"not parquet" * 99)
    assert texts_in(rows_of(hub, subset="web", max_documents=5)) == TEXTS[:5]
    with pytest.raises(InputError, match=r"data set .*/set/web/train: cannot be read"):
        rows_of(hub, subset="web")


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"subset": "films"}, {"subset": "web", "split": "dev"}])
def test_a_subset_or_split_that_is_not_there_is_one_line(hub: Path, more: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"data set .*: cannot be read") as refused:
        rows_of(hub, **more)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_corpus_is_built_from_a_repository(hub: Path, tmp_path: Path) -> None:
    rows = {"text": library_texts(30), "id": list(range(30))}
    parquet.write_table(pyarrow.table(rows), hub / "web" / "0.parquet")
    manifest = build(small_data(hub, sources=[{"kind": "hf", "dataset": str(hub), "subset": "web"}]), tmp_path)
    assert manifest.sources[0].name == "hf" and manifest.funnel["rejected"]["not-text"] == 2


def test_one_file_without_the_key_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines("other"))
    (tmp_path / "b.jsonl").write_bytes(lines())
    found = records("jsonl", tmp_path)
    assert texts_in(found) == TEXTS and reasons_in(found) == []
    found = records("jsonl", tmp_path / "*.jsonl")
    assert texts_in(found) == TEXTS and set(reasons_in(found)) == {"missing-key"}
    parquet.write_table(pyarrow.table({"body": TEXTS}), tmp_path / "a.parquet")
    parquet.write_table(pyarrow.table({"text": TEXTS}), tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"x" * 99)
    assert texts_in(records("parquet", tmp_path)) == TEXTS


def test_deeply_nested_json_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a":' * 200_000 + b"\n" + lines())
    found = records("jsonl", tmp_path / "a.jsonl")
    assert texts_in(found) == TEXTS and reasons_in(found) == ["invalid-json"]


def test_init_picks_the_kind_of_what_it_finds(tmp_path: Path) -> None:
    mixed = write_texts(tmp_path / "mixed", TEXTS[:2])
    (mixed / "a.jsonl.gz").write_bytes(gzip.compress(lines()))
    parquet.write_table(pyarrow.table({"text": TEXTS}), mixed / "a.parquet")
    init_campaign(tmp_path / "my", "quickstart", str(mixed))
    sources = load_campaign(tmp_path / "my").data.sources
    assert [source.kind for source in sources] == ["files", "jsonl", "parquet"]
    found = [expand_paths(s.paths, tmp_path, s.kind, "k") for s in sources]
    assert [[Path(file.name).name for file in files] for files in found] == [
        ["0000.txt", "0001.txt"],
        ["a.jsonl.gz"],
        ["a.parquet"],
    ]
    for name in ("bad\x07name", "bad\udcffname"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("text")
        with pytest.raises(InputError, match="rename it"):
            init_campaign(tmp_path / "other", "quickstart", str(tmp_path / name))


def test_a_second_run_over_the_parent_folder_reads_what_the_first_read(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", library_texts(25))
    first = build(small_data(tmp_path), tmp_path)
    for name in (
        "campaign.toml",
        "report.json",
        "plan.json",
        "ledger.sqlite-wal",
        "checkpoints/step-1/state.txt",
        "ladder/w16-d2-0123456789ab/rung-00000080-00000056.json",
        "learners/identity.json",
        "cluster/identity.json",
        "corpora/0123456789ab/manifest.json",
        "kept-elsewhere/step-00000040/manifest.json",
        "kept-elsewhere/damaged-step-00000030-1/manifest.json",
        "kept-elsewhere/tenfold-owner.json",
        "exported-elsewhere/config.json",
        "exported-elsewhere/tokenizer.json",
        "exported-elsewhere/model.safetensors",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("generated " * 50)
    assert walk(tmp_path) == sorted(folder.iterdir())
    assert expand_paths(["**/*"], tmp_path, "files", "k") == list(map(InputFile.local, sorted(folder.iterdir())))
    assert build(small_data(tmp_path), tmp_path) == first


def test_hidden_files_match_a_glob_only_where_it_has_a_dot(tmp_path: Path) -> None:
    """Such as `.git`, and the work of a build that was killed."""
    for name in (".data.work/documents/000000.text", ".git/config", ".note.txt", "sub/a.txt", "sub/.b/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")

    def names(pattern: str) -> list[str]:
        return [file.shown(tmp_path) for file in expand_paths([pattern], tmp_path, "files", "k")]

    assert names("**/*") == names("*/*") == ["sub/a.txt"]
    assert names(".*/config") == [".git/config"] and names("sub/.b/*") == ["sub/.b/c.txt"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "real" / "inner" / "a.txt").write_text("text")
    (tmp_path / "real" / "inner" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "link").symlink_to(tmp_path / "real")
    assert [path.name for path in walk(tmp_path / "texts")] == ["a.txt"]
    assert [path.name for path in walk(tmp_path / "texts" / "link")] == ["a.txt"]


def test_names_stay_different_when_numbered() -> None:
    sources = [Source(kind="python-stdlib", name=name) for name in ("a", "a", "a-1", None)]
    assert [name for name, _ in name_sources(sources)] == ["a-2", "a-3", "a-1", "python-stdlib"]


@pytest.mark.parametrize("text", ["word " * 9_999, "line\n" * 9_999, "par\n\n" * 9_999, "x" * 50_000, "é漢" * 9_999])
def test_long_texts_are_cut_and_nothing_is_lost(text: str) -> None:
    parts = cut_text(text, 4_096)
    assert "".join(parts) == text
    assert all(1_000 < len(part.encode()) <= 4_096 for part in parts)
    if "\n\n" in text:
        assert all(part.endswith("\n\n") for part in parts)
    assert cut_text(text, 0) == [text]


def test_few_files_are_cut_finer() -> None:
    assert part_size([1_000_000], 131_072) == 50_000
    assert part_size([100] * 19, 131_072) == 1024
    assert part_size([1_000_000] * 20, 131_072) == 131_072
    assert part_size([1_000_000], 0) == 0


def test_one_big_text_file_just_works(tmp_path: Path) -> None:
    text = "\n\n".join(library_texts(40))
    (tmp_path / "one.txt").write_text(text)
    manifest = build(small_data(tmp_path / "one.txt"), tmp_path)
    assert manifest.holdouts[0].documents >= 1
    assert sum(map(len, training_texts(tmp_path / "data", manifest))) > 0.8 * len(text)
