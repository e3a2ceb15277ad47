"""Odd text that people really have, each with what the console says of it.

    python -m tests.data.odd_inputs      prints the table of docs/odd_inputs.md

A case lays files into the folder `odd`, beside two dozen good ones unless it says otherwise, and builds a corpus of it.
"""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import re
import socket
import sqlite3
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow
import zstandard
from pyarrow import parquet

from tenfold.cli import main
from tenfold.core import InputError
from tenfold.data import sources_of
from tenfold.data.holdouts import PACKAGE_ROOT
from tests.campaign.small import TOML
from tests.data.texts import library_texts

ODD = Path("odd")
SOURCES = 'sources = [{ kind = "files", paths = ["texts"] }]'
RESULT = re.compile(r"^(warning: |error: |data: read )")


@dataclass(frozen=True)
class OddInput:
    """What is odd, how to make it so, and lines that the console must have (regular expressions)."""

    what: str
    prepare: Callable[[], object]
    lines: tuple[str, ...]
    status: int = 0
    source: str = ""
    """The source, as in campaign.toml; by default what `tenfold init --data odd` writes."""
    alone: bool = False
    """Whether there are no good files beside it."""
    command: str = "data build my"


@cache
def texts() -> tuple[str, ...]:
    """Real texts of a few thousand bytes: first those of the good files, then those of the odd ones."""
    return tuple(library_texts(60, 1_000, 9_000))


def good() -> tuple[str, ...]:
    return texts()[:24]


def others() -> tuple[str, ...]:
    return texts()[24:]


def records(key: str = "text", count: int = 24) -> bytes:
    return b"".join(json.dumps({"id": n, key: text}).encode() + b"\n" for n, text in enumerate(others()[:count]))


def written(name: str, content: bytes) -> Callable[[], object]:
    return lambda: (ODD / name).write_bytes(content)


def all_of(*steps: Callable[[], object]) -> Callable[[], object]:
    return lambda: [step() for step in steps]


def table(name: str, columns: Callable[[], dict[str, list[Any]]]) -> Callable[[], object]:
    return lambda: parquet.write_table(pyarrow.table(columns()), ODD / name)


FRENCH = "Le garçon a mangé une crêpe à côté de l'école où étaient les élèves, très déçu. Ça lui a plu énormément.\n"
RUSSIAN = "Съешь ещё этих мягких французских булок, да выпей чаю. Москва - столица России.\n"
CHINESE = "人生天地之间，若白驹之过隙，忽然而已。注然勃然，莫不出焉；\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 20


def text_of(sentence: str, encoding: str = "utf-8") -> bytes:
    return (sentence * 40).encode(encoding)


def nothing() -> None:
    """The folder is as it should be."""


def book(bad: int) -> bytes:
    """A long text in which that many bytes are bad."""
    content = bytearray("".join(others()).encode())
    for number in range(bad):
        content[1_000 + number * (len(content) - 2_000) // max(bad, 1)] = 0xFF
    return bytes(content)


def fifo() -> None:
    os.mkfifo(ODD / "pipe")


def links() -> None:
    (ODD / "gone.txt").symlink_to("nowhere")
    (ODD / "loop").symlink_to("loop")


def sockets() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("odd/sock")


def repeated_value() -> None:
    """A few hundred bytes of parquet that stand for 42 GB."""
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 42_000, pyarrow.int32()), ["x " * 500_000])
    parquet.write_table(pyarrow.table({"text": column}), ODD / "small.parquet", compression="zstd")


def zipped(*names: str) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, FRENCH * 40)
    return whole.getvalue()


def tarred() -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        info = tarfile.TarInfo("a.txt")
        content = (FRENCH * 40).encode()
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def database() -> None:
    with contextlib.closing(sqlite3.connect(ODD / "chat.txt")) as connection, connection:
        connection.execute("create table messages (text)")
        connection.execute("insert into messages values (?)", (FRENCH * 100,))


def spaces(size: int) -> bytes:
    """Zstandard of that many bytes, in a few kilobytes."""
    compressor = zstandard.ZstdCompressor(level=19).compressobj()
    parts = [compressor.compress(b"a b " * (1 << 18)) for _ in range(size >> 20)]
    return b"".join([*parts, compressor.flush()])


def deep() -> bytes:
    return b'{"a":' * 100_000 + b"\n" + records()


def messages() -> bytes:
    """Dialogues as many data sets have them."""
    rows = [{"id": n, "messages": [{"role": "user", "content": text}]} for n, text in enumerate(others())]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def strings() -> bytes:
    return b"".join(json.dumps(text).encode() + b"\n" for text in others()[:24])


def indented() -> bytes:
    rows = [json.loads(line) for line in records().splitlines()]
    return json.dumps(rows, indent=2).encode()


def indented_objects() -> bytes:
    return b"\n".join(json.dumps(json.loads(line), indent=1).encode() for line in records().splitlines())


def bad_line() -> bytes:
    content = bytearray(records())
    content[len(content) // 2] = 0xFF
    return bytes(content)


def surrogate() -> bytes:
    return records() + json.dumps({"text": FRENCH + "\ud83d" + FRENCH}).encode()


def broken_gzip() -> bytes:
    """Cut off early: what there is of it is too short to be kept."""
    return gzip.compress(os.urandom(90_000).hex().encode())[:30]


CONFIG = json.dumps({"name": "x", "version": "1.0.0", "scripts": {"test": "pytest -q"}, "files": ["a"] * 20}).encode()
JSONL = 'kind = "jsonl", paths = ["ODD"]'
PARQUET = 'kind = "parquet", paths = ["ODD"]'
FILES = 'kind = "files", paths = ["ODD"]'
PATH = 'kind = "files", paths = ["ODD/{}"]'
ALL_KEPT = r"data: read 25 documents, .*; lost none(; cut out [0-9.]+ B shared with holdouts)?$"
TWICE = r"data: read 47 documents, 260 KiB; .*; lost none"

CASES = [
    # Bad bytes and encodings
    OddInput("a book with one bad byte", written("book.txt", book(1)), (r"; 1 bad byte replaced by U\+FFFD$",)),
    OddInput("a book with forty bad bytes", written("book.txt", book(40)), (r"; 40 bad bytes replaced by U\+FFFD$",)),
    OddInput(
        "a book with three bad bytes in a hundred",
        written("book.txt", book(3_000)),
        (r"warning: source 'files': .* of its bytes lost as invalid-utf8; set `encoding`",),
    ),
    OddInput("a NUL in a text", written("a.txt", text_of(FRENCH) + b"\0" + b"fin."), (r"; 1 bad byte replaced",)),
    OddInput("Latin-1", written("a.txt", text_of(FRENCH, "latin-1")), (r"; 1 text read as cp1252 \(a guess;",)),
    OddInput("Windows Cyrillic", written("a.txt", text_of(RUSSIAN, "cp1251")), (r"1 text read as cp1251 \(a guess",)),
    OddInput("KOI8-R", written("a.txt", text_of(RUSSIAN, "koi8-r")), (r"1 text read as koi8_r \(a guess",)),
    OddInput("Shift JIS", written("a.txt", text_of(JAPANESE, "shift_jis")), (r"1 text read as cp932 \(a guess",)),
    OddInput("GB 18030", written("a.txt", text_of(CHINESE, "gb18030")), (r"1 text read as gb18030 \(a guess",)),
    OddInput("ISO-2022-JP", written("a.txt", text_of(JAPANESE, "iso2022_jp")), (r"1 text read as iso2022_jp",)),
    OddInput("UTF-16", written("a.txt", text_of(FRENCH, "utf-16")), (r"; 1 text read as utf-16$",)),
    OddInput(
        "UTF-16, no mark", written("a.txt", text_of(FRENCH, "utf-16-le")), (r"1 text read as utf_16_le \(a guess",)
    ),
    OddInput("UTF-8 with a byte order mark", written("a.txt", b"\xef\xbb\xbf" + text_of(FRENCH)), (ALL_KEPT,)),
    OddInput(
        "an encoding that is named",
        written("a.txt", text_of(FRENCH, "cp850")),
        (r"; 2[0-9] texts read as cp850$",),
        source=FILES + ', encoding = "cp850"',
    ),
    OddInput(
        "an encoding that is none",
        nothing,
        (r"error: my/campaign.toml: data.sources\[0\].encoding = 'utf-9': no encoding of text that Python knows",),
        2,
        FILES + ', encoding = "utf-9"',
    ),
    # Not text
    OddInput("a picture among texts", written("a.png", PNG), (r"lost 1: 1 binary",)),
    OddInput("a database named .txt", database, (r"lost 1: 1 binary",)),
    OddInput("a PDF", written("a.pdf", b"%PDF-1.7\n" + text_of(FRENCH)), (r"lost 1: 1 binary",)),
    OddInput(
        "pictures alone",
        written("a.png", PNG),
        (r"error: --data odd: no text in these files \(a.png: a PNG picture\)",),
        2,
        alone=True,
        command="init new --data odd",
    ),
    OddInput("an empty file", written("a.txt", b""), (r"lost 1: 1 too-short",)),
    OddInput("nothing but white space", written("a.txt", b" \n\t\r\n" * 2_000), (r"lost 1: 1 empty \(",)),
    OddInput("a FIFO in the folder", fifo, (r"warning: .*odd: left out, as no file: pipe \(a FIFO \(named pipe\)\)",)),
    OddInput("a socket in the folder", sockets, (r"warning: .*odd: left out, as no file: sock \(a socket\)",)),
    OddInput(
        "links that lead nowhere", links, (r"left out, as no file: gone.txt \(a link that leads nowhere\), loop",)
    ),
    OddInput(
        "a FIFO by name", fifo, (r"error: .*odd/pipe: a FIFO \(named pipe\), not a file;",), 2, PATH.format("pipe")
    ),
    OddInput(
        "a device by name",
        nothing,
        (r"error: /dev/zero: a character device, not a file; data.sources.paths takes files",),
        2,
        'kind = "files", paths = ["/dev/zero"]',
    ),
    # Compressed
    OddInput("gzip", written("a.txt.gz", gzip.compress(text_of(FRENCH))), (ALL_KEPT,)),
    OddInput("xz", written("a.txt.xz", lzma.compress(text_of(FRENCH))), (ALL_KEPT,)),
    OddInput("bzip2, named .txt", written("a.txt", bz2.compress(text_of(FRENCH))), (ALL_KEPT,)),
    OddInput("zstd without .txt", written("a.zst", zstandard.compress(text_of(FRENCH))), (ALL_KEPT,)),
    OddInput("a zip of one file", written("a.zip", zipped("a.txt")), (ALL_KEPT,)),
    OddInput("a zip of two files", written("a.zip", zipped("a.txt", "b.txt")), (r"lost 1: 1 archive",)),
    OddInput(
        "gzip in gzip, and an Office document",
        all_of(
            written("a.gz", gzip.compress(gzip.compress(text_of(FRENCH)))),
            written("a.docx", zipped("[Content_Types].xml", "word/document.xml")),
        ),
        (r"lost 2: 1 binary \([0-9]+ B\), 1 compressed",),
    ),
    OddInput("a tar archive", written("a.tar.gz", tarred()), (r"lost 1: 1 archive",)),
    OddInput(
        "lz4", written("a.txt.lz4", b"\x04\x22\x4d\x18" + bytes(range(200))), (r"lost 1: 1 (compressed|truncated)",)
    ),
    OddInput(
        "a .gz that breaks off",
        written("a.txt.gz", broken_gzip()),
        (r"warning: .* truncated-stream, and an unknown rest of these files;",),
    ),
    OddInput(
        "a gigabyte in a few kilobytes of zstd",
        written("a.txt.zst", spaces(1 << 30)),
        (
            r"lost [0-9]+: .*1 expands-too-far",
            r"warning: source 'files': .* as expands-too-far, and an unknown rest of these files",
        ),
    ),
    OddInput("42 GB in 600 bytes of parquet", repeated_value, (r"1 expands-too-far",)),
    # JSON and parquet
    OddInput("JSON lines named .json", written("a.json", records()), (TWICE,)),
    OddInput("a list named .json", written("a.json", indented()), (TWICE,)),
    OddInput("indented objects", written("a.json", indented_objects()), (TWICE,)),
    OddInput("JSON lines named .ndjson", written("a.ndjson", records()), (TWICE,)),
    OddInput("JSON lines named .txt", written("a.txt", records()), (TWICE,)),
    OddInput("JSON lines, .json.gz", written("a.json.gz", gzip.compress(records())), (TWICE,)),
    OddInput("JSON lines, .jsonl.xz", written("a.jsonl.xz", lzma.compress(records())), (TWICE,)),
    OddInput(
        "JSON lines in UTF-16", written("a.jsonl", records().decode().encode("utf-16")), (r"; 1 text read as utf-16$",)
    ),
    OddInput("JSON lines with one bad byte", written("a.jsonl", bad_line()), (r"; 1 bad byte replaced by U\+FFFD$",)),
    OddInput("half a surrogate pair", written("a.jsonl", surrogate()), (r"; 1 bad byte replaced by U\+FFFD$",)),
    OddInput("one object that is no record", written("package.json", CONFIG), (ALL_KEPT,)),
    OddInput(
        "JSON lines of which some have another key",
        all_of(written("a.jsonl", records()), written("b.jsonl", records("body"))),
        (r"warning: 1 file of the folders .* belong to no source .*b.jsonl \(of kind \"jsonl\", keys id, body\)",),
        source=JSONL,
        alone=True,
    ),
    OddInput(
        "the same, by init",
        all_of(written("a.jsonl", records()), written("b.jsonl", records("body"))),
        (r"data: read 46 documents.* 23 exact duplicates",),
        alone=True,
    ),
    OddInput(
        "JSON lines by name, another key",
        all_of(written("a.jsonl", records()), written("b.jsonl", records("body"))),
        (
            r"warning: source 'jsonl': 1 of 2 files will give nothing: .* \(no text under 'text'; keys: id, body\)",
            r"warning: source 'jsonl': 50% of its documents, .* of its bytes lost as missing-key; set text_key",
        ),
        source='kind = "jsonl", paths = ["ODD/*.jsonl"]',
        alone=True,
    ),
    OddInput(
        "no record with the key",
        written("a.jsonl", records("body")),
        (r"error: .*a.jsonl: no record of this source has the key 'text'; keys there are: body, id",),
        2,
        JSONL,
        alone=True,
    ),
    OddInput(
        "an empty .jsonl beside texts",
        written("a.jsonl", b""),
        (r"warning: 1 file .* belong to no source and are not read: .*a.jsonl \(no record in it\)",),
    ),
    OddInput(
        "texts inside of a list",
        written("a.jsonl", messages()),
        (r"error: .* key 'text'; keys there are: id, messages \(a list\); text inside of a list .* not looked",),
        2,
        JSONL,
        alone=True,
    ),
    OddInput(
        "strings instead of records",
        written("a.jsonl", strings()),
        (r"error: source 'jsonl': no usable text \(2[0-9] not-an-object; kind \"jsonl\" takes objects",),
        2,
        JSONL,
        alone=True,
    ),
    OddInput(
        "a list of strings named .json",
        written("a.json", b"[" + strings().strip().replace(b"\n", b",\n") + b"]"),
        (r"warning: .*a.json: a list of JSON strings, read as it stands, with quotes and escapes; write records such",),
        alone=True,
    ),
    OddInput("records that are lists", written("a.jsonl", records() + b'["a"]\n' * 20), (r"lost as not-an-object",)),
    OddInput("nested too deeply", written("a.jsonl", deep()), (r"1 invalid-json",)),
    OddInput(
        "short records",
        written("a.jsonl", records() + b'{"text": "yes"}\n' * 500),
        (r"warning: source 'jsonl': 96% of its documents, .* lost as too-short; data.clean.min_bytes = 64 decides",),
    ),
    OddInput(
        "a record of 40 MB",
        written("a.jsonl", records() + json.dumps({"text": "a b c " * 7_000_000}).encode()),
        (r"1 too-large", r"warning: .* lost as too-large; data.read.max_record_bytes decides"),
    ),
    OddInput("a column of bytes", table("a.parquet", lambda: {"text": [text.encode() for text in others()]}), (TWICE,)),
    OddInput(
        "a column of lists",
        table("a.parquet", lambda: {"text": [text.split("\n") for text in others()]}),
        (r"error: .*a.parquet: column text \(list<element: string>\) holds no text; columns that do",),
        2,
        PARQUET,
    ),
    OddInput(
        "a parquet file among JSON lines",
        all_of(written("a.jsonl", records()), table("b.parquet", lambda: {"text": list(others())})),
        (r"warning: 1 file .* belong to no source and are not read: .*b.parquet \(of kind \"parquet\", keys text\)",),
        source=JSONL,
        alone=True,
    ),
    OddInput(
        "an odd parquet file among others",
        all_of(
            table("a.parquet", lambda: {"text": list(others())}), table("b.parquet", lambda: {"body": list(good())})
        ),
        (r"warning: 1 file .* not read: .*b.parquet \(of kind \"parquet\", keys body\)",),
        source=PARQUET,
        alone=True,
    ),
    OddInput(
        "parquet as text",
        table("a.parquet", lambda: {"text": list(others())}),
        (r'error: .*a.parquet: a parquet file; a source of kind "parquet" reads it',),
        2,
        PATH.format("a.parquet"),
    ),
    OddInput(
        "a .parquet that is none",
        written("a.parquet", b"x" * 99),
        (r"a.parquet \(not a parquet file: no PAR1",),
        source=FILES,
    ),
    OddInput(
        "JSON records as text",
        written("a.json", records()),
        (r'warning: .*a.json: JSON records, read as they stand, with keys and braces; a source of kind "jsonl" reads',),
        source=PATH.format("a.json"),
        alone=True,
    ),
]


def prepare(case: OddInput) -> None:
    """The files of a case and its campaign, in the working directory. Raises InputError where init would."""
    ODD.mkdir()
    if not case.alone:
        for number, text in enumerate(good()):
            (ODD / f"good-{number:02}.txt").write_text(text)
    case.prepare()
    Path("my").mkdir()
    sources = [f"{{ {case.source} }}".replace("ODD", str(ODD.absolute()))] if case.source else []
    if not sources and case.command.startswith("data"):
        found = (", ".join(f"{key} = {json.dumps(value)}" for key, value in each.items()) for each in sources_of("odd"))
        sources = [f"{{ {each} }}" for each in found]
    Path("my/campaign.toml").write_text(TOML.replace(SOURCES, f"sources = [{', '.join(sources)}]"))


def run_odd(case: OddInput) -> tuple[int, list[str]]:
    """Exit status and what the console says of the input, in an empty working directory."""
    err, status = io.StringIO(), 0
    argv = mock.patch.object(sys, "argv", ["tenfold", *case.command.split()])
    few = mock.patch("tenfold.data.holdouts.project_files", lambda: [PACKAGE_ROOT / "__init__.py"])  # quick
    with argv, few, contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            prepare(case)
            main()
        except InputError as error:
            return 2, [f"error: {error}"]
        except SystemExit as end:
            status = int(end.code or 0)
    return status, [line for line in err.getvalue().splitlines() if RESULT.match(line)]


def rows() -> list[str]:
    """A row of the page for each case."""
    found = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
            status, lines = run_odd(case)
            shown = "<br>".join(f"`{line}`" for line in lines).replace("|", "\\|").replace(directory + "/", "")
        found.append(f"| {case.what} | {status} | {shown} |")
    return found


if __name__ == "__main__":
    print("| input | exit | the console says |\n|---|---|---|")
    print("\n".join(rows()))
