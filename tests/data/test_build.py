"""The corpus build on real text: what goes in comes out again, what is killed is redone, what fails says so."""

import json
import random
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from tenfold.config import Data
from tenfold.core.errors import InputError
from tenfold.core.progress import Progress
from tenfold.data import Manifest, audit, build_corpus, load_holdout, token_byte_lengths
from tenfold.data.build import LIBRARIES
from tenfold.data.corpus import load_tokenizer, split_documents, training_documents
from tenfold.data.manifest import FORMAT
from tests.data.texts import library_texts, small_data, write_texts


def quiet(_: Progress) -> None:
    """No progress shown."""


def build(data: Data, directory: Path, seed: int = 1) -> Manifest:
    return build_corpus(data, seed, directory / "data", directory, quiet)


def training_texts(directory: Path, manifest: Manifest) -> list[str]:
    tokenizer = load_tokenizer(directory, manifest)
    return [
        tokenizer.decode_bytes(row).decode()
        for source in manifest.sources
        for row in training_documents(directory, manifest, source)
    ]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return library_texts(60)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> tuple[Path, Manifest]:
    directory = tmp_path_factory.mktemp("corpus")
    manifest = build(small_data(write_texts(directory / "texts", texts)), directory)
    return directory / "data", manifest


def test_every_document_is_trained_on_or_held_out_byte_for_byte(
    corpus: tuple[Path, Manifest], texts: list[str]
) -> None:
    directory, manifest = corpus
    held_out = {document.text.decode() for document in load_holdout(directory, manifest, "iid")}
    trained = set(training_texts(directory, manifest))
    assert held_out and held_out <= set(texts)
    assert not held_out & trained
    whole = [text for text in texts if text in trained]
    assert len(whole) == len(texts) - len(held_out) - manifest.funnel["contaminated"]


def test_the_funnel_adds_up(corpus: tuple[Path, Manifest]) -> None:
    _, manifest = corpus
    funnel = manifest.funnel
    gone = sum(funnel["rejected"].values()) + funnel["exact_duplicates"] + funnel["near_duplicates"]
    gone += funnel["held_out"] + funnel["dropped_after_decontamination"]
    assert funnel["documents_in"] == gone + funnel["documents_kept"]
    assert funnel["bytes_kept"] == sum(source.bytes for source in manifest.sources)


def test_bytes_of_tokens_are_exact(corpus: tuple[Path, Manifest]) -> None:
    directory, manifest = corpus
    lengths = token_byte_lengths(directory, manifest)
    for source in manifest.sources:
        rows = list(training_documents(directory, manifest, source))
        assert sum(int(lengths[row].sum()) for row in rows) == source.bytes
        assert sum(row.size + 1 for row in rows) == source.tokens
    assert lengths[manifest.end_of_document] == 0


def test_the_same_text_elsewhere_is_the_same_corpus(tmp_path: Path, texts: list[str]) -> None:
    digests = []
    for name in ("one", "other"):
        directory = tmp_path / name
        digests.append(build(small_data(write_texts(directory / "texts", texts[:30])), directory).digest)
    assert digests[0] == digests[1]


def test_an_unchanged_corpus_is_not_built_again_and_a_changed_one_is(tmp_path: Path, texts: list[str]) -> None:
    data = small_data(write_texts(tmp_path / "texts", texts[:30]))
    first = build(data, tmp_path)
    written = (tmp_path / "data" / "manifest.json").stat().st_mtime_ns
    assert build(data, tmp_path) == first
    assert (tmp_path / "data" / "manifest.json").stat().st_mtime_ns == written
    (tmp_path / "texts" / "new.txt").write_text(texts[31])
    assert build(data, tmp_path).funnel["documents_in"] == first.funnel["documents_in"] + 1


def test_a_failed_build_leaves_the_old_corpus(tmp_path: Path, texts: list[str]) -> None:
    data = small_data(write_texts(tmp_path / "texts", texts[:30]))
    before = build(data, tmp_path)
    broken = data.model_copy(update={"sources": [*data.sources, data.sources[0].model_copy(update={"paths": ["x"]})]})
    with pytest.raises(InputError, match=r"x: no such file"):
        build(broken, tmp_path)
    assert Manifest.load(tmp_path / "data") == before
    assert audit(tmp_path / "data").ok


def test_what_a_killed_build_left_is_no_hindrance(tmp_path: Path, texts: list[str]) -> None:
    half = tmp_path / ".data.building"
    (half / "shards").mkdir(parents=True)
    (half / "manifest.json").write_text("{")
    manifest = build(small_data(write_texts(tmp_path / "texts", texts[:30])), tmp_path)
    assert manifest.tokens > 0 and not half.exists()


def test_broken_records_are_listed_with_place_and_reason(tmp_path: Path, texts: list[str]) -> None:
    folder = write_texts(tmp_path / "texts", texts[:30])
    (folder / "bad.txt").write_bytes("schön ".encode() * 50 + b"\xff" * 9)
    (folder / "null.txt").write_bytes(b"text " * 50 + b"\0" * 9)
    (folder / "tiny.txt").write_bytes(b"tiny")
    manifest = build(small_data(folder), tmp_path)
    assert manifest.funnel["rejected"] == {"invalid-utf8": 1, "binary": 1, "too-short": 1}
    rejects = [json.loads(line) for line in (tmp_path / "data" / "rejects.jsonl").read_text().splitlines()]
    assert {(Path(r["where"]).name, r["reason"]) for r in rejects} >= {
        ("bad.txt", "invalid-utf8"),
        ("null.txt", "binary"),
        ("tiny.txt", "too-short"),
    }


def test_a_mixture_is_written_source_by_source(tmp_path: Path, texts: list[str]) -> None:
    jsonl = tmp_path / "more.jsonl"
    jsonl.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts[30:60]))
    sources = [
        {"kind": "files", "paths": [str(write_texts(tmp_path / "texts", texts[:30]))], "weight": 3.0},
        {"kind": "jsonl", "paths": [str(jsonl)], "text_key": "body", "weight": 1.0, "licence": "PSF"},
    ]
    manifest = build(small_data(tmp_path, sources=sources), tmp_path)
    assert [source.name for source in manifest.sources] == ["files", "jsonl"]
    assert [source.weight for source in manifest.sources] == [3.0, 1.0]
    assert manifest.sources[1].licence == "PSF"
    assert all(source.tokens > 0 for source in manifest.sources)


def edited(text: str, share: float, rng: random.Random) -> str:
    """The text with some of its words replaced."""
    words = text.split(" ")
    return " ".join(f"w{rng.randrange(10**6)}" if rng.random() < share else word for word in words)


def test_planted_copies_never_reach_training(tmp_path: Path, texts: list[str]) -> None:
    """Exact copies, edited copies and excerpts of a given evaluation set; the audit agrees."""
    rng = random.Random(0)
    held_out, innocent = texts[:10], texts[10:]
    holdout = write_texts(tmp_path / "evaluation", held_out)
    plants = [*held_out, *(edited(text, 0.05, rng) for text in held_out)]
    excerpts = [innocent[n] + "\n" + " ".join(text.split()[20:80]) + "\n" for n, text in enumerate(held_out)]
    folder = write_texts(tmp_path / "texts", [*innocent[len(excerpts) :], *plants, *excerpts])
    holdouts = [{"name": "given", "kind": "files", "paths": [str(holdout)]}]
    manifest = build(small_data(folder, holdouts=holdouts), tmp_path)
    report = audit(tmp_path / "data")
    assert report.ok, report
    trained = "\n".join(training_texts(tmp_path / "data", manifest))
    for text in held_out:
        assert text not in trained
        assert " ".join(text.split()[20:80]) not in trained
    untouched = [text in trained for text in innocent[len(excerpts) :]]
    assert sum(untouched) >= 0.8 * len(untouched)  # the others lost a run that a held-out file really has too


def test_split_documents_joins_what_two_shards_cut() -> None:
    rows = [np.array([1, 2, 0, 3]), np.array([4, 0, 0, 5])]
    found = [row.tolist() for row in split_documents(iter(rows), 0)]
    assert found == [[1, 2], [3, 4], [], [5]]


def test_a_folder_of_the_users_is_never_replaced(tmp_path: Path, texts: list[str]) -> None:
    folder = write_texts(tmp_path / "data", texts[:30])
    with pytest.raises(InputError, match=r"data: holds '0000\.txt', which is no part of a corpus"):
        build(small_data(folder), tmp_path)
    assert len(list(folder.iterdir())) == 30 and not (tmp_path / ".data.old").exists()


def test_a_users_file_in_a_corpus_is_not_deleted_and_a_broken_corpus_is_replaced(
    tmp_path: Path, texts: list[str]
) -> None:
    data = small_data(write_texts(tmp_path / "texts", texts[:30]))
    first = build(data, tmp_path)
    (tmp_path / "data" / "manifest.json").unlink()
    assert build(data, tmp_path) == first
    for name in ("notes.txt", "shards/notes.txt"):
        note = tmp_path / "data" / name
        note.write_text("mine")
        with pytest.raises(InputError, match=r"holds 'notes\.txt'"):
            build(data, tmp_path, seed=2)
        assert note.read_text() == "mine"
        note.unlink()


def test_the_same_campaign_named_otherwise_is_not_built_again(
    tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(tmp_path / "my" / "texts", texts[:30])
    data = small_data(Path("texts"))
    monkeypatch.chdir(tmp_path)
    first = build_corpus(data, 1, Path("my/data"), Path("my"), quiet)
    monkeypatch.chdir("my")
    assert build_corpus(data, 1, Path("data"), Path(), quiet).made_from == first.made_from


def test_bytes_of_the_funnel_add_up(corpus: tuple[Path, Manifest]) -> None:
    funnel = corpus[1].funnel
    gone = sum(funnel["rejected_bytes"].values()) + funnel["exact_duplicates_bytes"] + funnel["near_duplicates_bytes"]
    gone += funnel["held_out_bytes"] + funnel["contaminated_bytes"]
    assert funnel["bytes_in"] == gone + funnel["bytes_kept"] > 0


def test_a_corpus_without_holdouts_can_be_audited(tmp_path: Path, texts: list[str]) -> None:
    build(small_data(write_texts(tmp_path / "texts", texts[:30]), holdouts=[]), tmp_path)
    assert audit(tmp_path / "data").ok


def test_a_corpus_of_another_format_is_built_again(tmp_path: Path, texts: list[str]) -> None:
    data = small_data(write_texts(tmp_path / "texts", texts[:30]))
    made_from = build(data, tmp_path).made_from
    path = tmp_path / "data" / "manifest.json"
    for before in ("0" * 64, made_from.replace(f"{FORMAT}:", "1:")):
        record = json.loads(path.read_text()) | {"made_from": before}
        del record["common"]  # as a corpus of before has it
        path.write_text(json.dumps(record))
        assert Manifest.load(tmp_path / "data").common is None
        assert build(data, tmp_path).made_from == made_from


KNOWN_LIBRARIES = {"numpy": "2.4.6", "tokenizers": "0.23.3"}
KNOWN_DIGEST = "d7a802d3d1cf5ed28768922838b3918b03ad2775a32d79ace30fbffb228c5bad"


@pytest.mark.skipif(
    {name: version(name) for name in LIBRARIES} != KNOWN_LIBRARIES, reason="the digest is known for other libraries"
)
def test_the_format_gives_the_corpus_it_always_gave(tmp_path: Path) -> None:
    """Whoever changes this digest changes which corpus a configuration gives: raise FORMAT of data/manifest.py too."""
    draw = random.Random(0)
    words = ["".join(draw.choices("aeiounrst", k=draw.randint(1, 9))) for _ in range(400)]
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(20):
        sentences = [" ".join(draw.choices(words, k=12)) + "." for _ in range(40)]
        (folder / f"{number:02}.txt").write_text("\n".join(sentences))
    assert FORMAT == 2
    assert build(small_data(folder), tmp_path).digest == KNOWN_DIGEST


def test_copies_that_leave_nothing_to_hold_out_are_counted_in_the_error(tmp_path: Path) -> None:
    data = small_data(write_texts(tmp_path / "texts", [library_texts(1)[0][:600]] * 5))
    said = r"1 distinct documents are too few to hold out .* \(4 of the 5 read are copies of one another"
    with pytest.raises(InputError, match=said):
        build(data, tmp_path)
