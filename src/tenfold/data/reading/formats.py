"""What a file holds, by its first bytes; its name decides only where they leave it open."""

import codecs
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import IO, Any

from tenfold.data.reading.decompress import BrokenStream, CannotExpand, expand, method_of
from tenfold.data.reading.encodings import NotText, TextDecoder
from tenfold.data.reading.inputs import InputFile
from tenfold.data.reading.json_records import JsonValue, json_values
from tenfold.data.reading.parquet_records import UnreadableParquet, columns_of

HEAD = 1 << 16
"""Bytes of the text looked at."""
RECORDS_LOOKED_AT = 20
BEGINS_AN_OBJECT = re.compile(r'[\s\x1e]*(\[\s*)?\{\s*("(?:[^"\\]|\\.)*"\s*:|\}|$)')
BEGINS_STRINGS = re.compile(r'\s*(\[\s*)?"')
STRINGS = "JSON strings"
LINE_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines", ".jl")
TEXT_KEYS = ("text", "content", "body", "document", "raw_content", "article", "story", "passage", "markdown", "code")
"""Keys that text is found under most, the surest first."""
BINARY = (
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ\x90\x00", "a program (PE)"),
    (b"\xca\xfe\xba\xbe", "a program (Mach-O or Java class)"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack it"),
    (b"\x1f\x9d", "compressed with compress (.Z); decompress it"),
    (b"ARROW1\x00\x00", "an Arrow file; write it as parquet"),
    (b"Obj\x01", "an Avro file; write it as parquet"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"OggS", "sound (Ogg)"),
    (b"RIFF", "sound or video (RIFF)"),
    (b"ID3", "sound (MP3)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
)
MANY_FILES = 200_000


class FileForm(StrEnum):
    """How the text in a file is laid out."""

    TEXT = "text"
    JSON = "JSON records"
    PARQUET = "parquet"
    OTHER = "no text"


KINDS = {FileForm.TEXT: "files", FileForm.JSON: "jsonl", FileForm.PARQUET: "parquet"}
"""The kind of source that reads each form."""


@dataclass(frozen=True)
class Look:
    """What a first look at a file gives."""

    form: FileForm
    method: str | None = None
    """How it is compressed."""
    reason: str = ""
    """Why it cannot be read, as in rejects.jsonl, where the look tells."""
    detail: str = ""
    """What it is then; STRINGS of a text that is."""
    keys: tuple[str, ...] = ()
    """Keys of the first records, or columns; where something else than text stands under them, what it is in brackets.
    """
    text_keys: tuple[str, ...] = ()
    """Those of them that hold text, the likeliest first."""
    whole: bool = False
    """Whether these are all keys there can be."""
    empty: bool = False
    """Whether there is no record in it."""

    def lacks(self, text_key: str) -> bool:
        """Whether it is certain that no text stands under a key."""
        return self.whole and text_key not in self.text_keys


@lru_cache(MANY_FILES)
def look_at(file: InputFile) -> Look:
    """Read the beginning of a file. Raises OSError."""
    with file.opened() as raw:
        method = method_of(raw.read(16))
        raw.seek(0)
        head, ended = _head(raw, method)
        if isinstance(head, Look):
            return head
    if head.startswith(b"PAR1") or file.has_suffix(".parquet"):
        return _look_at_parquet(file, head, method)
    if method is not None and (inner := method_of(head)) is not None:
        return Look(FileForm.OTHER, method, "compressed", f"{inner} inside of {method}; decompress it")
    if (what := _binary(head)) is not None:
        return Look(FileForm.OTHER, method, "archive" if "unpack" in what else "binary", what)
    try:
        text = "".join(TextDecoder(max_replaced=0.01).decode(iter([head])))
    except NotText as error:
        return Look(FileForm.TEXT, method, error.reason, str(error))
    return _look_at_json(text, file, method, ended=ended) or Look(FileForm.TEXT, method, "", _strings(text))


def _head(raw: IO[bytes], method: str | None) -> tuple[bytes | Look, bool]:
    """The first bytes, decompressed, and whether these are all."""
    parts, size = [], 0
    try:
        for block in expand(raw, method, HEAD):
            parts.append(block)
            size += len(block)
            if size >= HEAD:
                return b"".join(parts)[:HEAD], False
    except BrokenStream:
        return b"".join(parts), False
    except CannotExpand as error:
        return Look(FileForm.OTHER, method, error.reason, str(error)), False
    return b"".join(parts), True


def _binary(head: bytes) -> str | None:
    """What a file is by its magic bytes, where it is no text."""
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it"
    if b"\0" not in head and head[:5] != b"%PDF-" and _is_utf8(head):
        return None
    if head.startswith(b"\xff\xff\xff\xff") and head[6:8] == b"\0\0":
        return "an Arrow stream, as datasets saves it; write it as parquet"
    return next((what for magic, what in BINARY if head.startswith(magic)), None)


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _look_at_parquet(file: InputFile, head: bytes, method: str | None) -> Look:
    if method is not None:
        return Look(FileForm.OTHER, method, "compressed", f"parquet inside of {method}; decompress it")
    if not head.startswith(b"PAR1"):
        what = "encrypted" if head.startswith(b"PARE") else "no PAR1 at its beginning"
        return Look(FileForm.OTHER, None, "unreadable", f"not a parquet file: {what}")
    try:
        columns, rows = columns_of(file)
    except UnreadableParquet as error:
        return Look(FileForm.OTHER, None, "unreadable", f"not a whole parquet file: {error}")
    text = [name for name, kind in columns.items() if kind is None]
    keys = tuple(name if kind is None else f"{name} ({kind})" for name, kind in columns.items())
    return Look(FileForm.PARQUET, None, "", "", keys, tuple(sorted(text, key=_rank)), whole=True, empty=not rows)


def _rank(key: str) -> int:
    return TEXT_KEYS.index(key.lower()) if key.lower() in TEXT_KEYS else len(TEXT_KEYS)


def _look_at_json(text: str, file: InputFile, method: str | None, *, ended: bool) -> Look | None:
    """A look at records of JSON; None where the text is none, or one object that is a text of its own."""
    named, begun = file.has_suffix(*LINE_SUFFIXES), BEGINS_AN_OBJECT.match(text)
    if not named and not begun:
        return None
    items = list(islice(json_values([text], len(text) + 1), RECORDS_LOOKED_AT))
    if not ended and len(items) < RECORDS_LOOKED_AT:
        items = items[:-1]  # where the look ends, a record is cut
    records = [item.value for item in items if isinstance(item, JsonValue) and isinstance(item.value, dict)]
    look = _look_at_records(records, method, whole=ended or len(records) >= RECORDS_LOOKED_AT // 2)
    if named or (not items and begun and _may_be_records(text)):
        return replace(look, empty=ended and not text.strip())
    if len(records) <= len(items) // 2:
        return None
    is_one = ended and len(items) == 1 and not text.lstrip("\ufeff \t\r\n").startswith("[")
    return None if is_one and not set(look.text_keys) & set(TEXT_KEYS) else look


def _strings(text: str) -> str:
    """What a text is called that is JSON without keys: a list of strings, or a string a line."""
    items = list(islice(json_values([text], len(text) + 1), 2)) if BEGINS_STRINGS.match(text) else []
    return (
        STRINGS if items and all(isinstance(each, JsonValue) and isinstance(each.value, str) for each in items) else ""
    )


def _may_be_records(text: str) -> bool:
    """Of records of which the first one is not whole: whether it stands in a list or on one line."""
    return text.lstrip().startswith("[") or "\n" not in text.strip()


def _look_at_records(records: list[dict[str, Any]], method: str | None, *, whole: bool) -> Look:
    sizes: dict[str, int] = {}
    nested: dict[str, str] = {}
    for record in records:
        for key, value in record.items():
            sizes[key] = sizes.get(key, 0) + (len(value) if isinstance(value, str) else 0)
            if isinstance(value, dict | list):
                nested[key] = "an object" if isinstance(value, dict) else "a list"
    text = [key for key, size in sizes.items() if size]
    order = sorted(text, key=lambda key: (_rank(key), -sizes[key]))
    keys = tuple(key if sizes[key] or key not in nested else f"{key} ({nested[key]})" for key in sizes)
    return Look(FileForm.JSON, method, "", "", keys, tuple(order), whole=whole and bool(records))
