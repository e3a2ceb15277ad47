"""Files of any size in bounded memory, and everything that was lost among what was read."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tenfold.config import Clean, Read
from tenfold.data.clean import Document, Found, Mended, Reject
from tenfold.data.reading.files import Reader
from tenfold.data.reading.inputs import InputFile
from tests.data.texts import library_texts

PEAK = """
import resource, sys
from pathlib import Path
from tenfold.config import Clean, Read
from tenfold.data.reading.files import Reader
from tenfold.data.reading.inputs import InputFile
reader = Reader("s", sys.argv[1], Path("/"), clean=Clean(), split_bytes=131_072)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in reader.documents(InputFile.local(Path(sys.argv[2]))))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def read(path: Path, kind: str = "files", **bounds: float) -> list[Found]:
    reader = Reader("s", kind, path.parent, read=Read(**bounds), clean=Clean(), split_bytes=131_072)  # type: ignore[arg-type]
    return list(reader.documents(InputFile.local(path)))


@pytest.mark.parametrize(("kind", "packed"), [("files", False), ("files", True), ("jsonl", False)])
def test_memory_does_not_grow_with_the_file(kind: str, packed: bool, tmp_path: Path) -> None:
    text = "".join(library_texts(40))
    line = (json.dumps({"text": text}) + "\n") if kind == "jsonl" else text
    content = (line * (96 * 1024 * 1024 // len(line))).encode()
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    run = subprocess.run([sys.executable, "-c", PEAK, kind, str(path)], capture_output=True, check=True, text=True)
    count, grown = map(int, run.stdout.split())
    assert count > 500 and grown < 90 * 1024  # kilobytes


def test_a_text_that_is_not_cut_is_left_out_beyond_the_bound(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 10_000)
    whole = Reader("s", "files", tmp_path, read=Read(max_record_bytes=20_000))
    (found,) = whole.documents(InputFile.local(tmp_path / "a.txt"))
    assert isinstance(found, Reject) and found.reason == "too-large" and "data.read.max_record_bytes" in found.detail


def test_what_was_read_before_a_stream_broke_off_is_kept(tmp_path: Path) -> None:
    text = "".join(library_texts(40))
    stored = gzip.compress(text.encode())
    (tmp_path / "a.gz").write_bytes(stored[: len(stored) // 2])
    *documents, reject = read(tmp_path / "a.gz")
    kept = "".join(document.text for document in documents if isinstance(document, Document))
    assert text.startswith(kept) and len(kept) > len(text) // 4
    assert isinstance(reject, Reject) and reject.reason == "truncated-stream"


def test_a_file_that_turns_binary_keeps_its_beginning(tmp_path: Path) -> None:
    text = "".join(library_texts(40)) * 12
    (tmp_path / "a.txt").write_bytes(text.encode() + bytes(range(256)) * 4_000)
    found = read(tmp_path / "a.txt")
    assert sum(len(each.text) for each in found if isinstance(each, Document)) > 0.5 * len(text)
    assert [each.reason for each in found if isinstance(each, Reject)] == ["binary"]


def test_mends_are_told_with_their_number(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("".join(library_texts(3)).encode() + b"\0\xff")
    *_, mended = read(tmp_path / "a.txt", max_replaced=0.01)
    assert isinstance(mended, Mended) and (mended.encoding, mended.replaced) == ("utf-8", 2)


def test_a_file_that_goes_away_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    file = InputFile.local(tmp_path / "a.txt")
    (tmp_path / "a.txt").unlink()
    (found,) = Reader("s", "files", tmp_path).documents(file)
    assert isinstance(found, Reject) and found.reason == "unreadable"


@pytest.mark.parametrize("blank", [" \n" * 500, "\u3000\u00a0\t" * 300])
def test_white_space_alone_is_lost_with_a_reason(blank: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(blank)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": blank}) + "\n" + json.dumps({"text": "word " * 50}))
    (only,) = read(tmp_path / "a.txt")
    assert isinstance(only, Reject) and (only.reason, only.bytes) == ("empty", len(blank.encode()))
    first, second = read(tmp_path / "a.jsonl", "jsonl")
    assert isinstance(first, Reject) and first.reason == "empty" and isinstance(second, Document)
