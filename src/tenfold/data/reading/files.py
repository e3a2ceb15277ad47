"""The documents of one file, as a stream in bounded memory, with every loss and every mend among them."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from tenfold.config import Clean, Read
from tenfold.core import byte_size
from tenfold.data.clean import Document, Found, Mended, Reject, within_limits
from tenfold.data.reading.cutting import cut_stream, cut_text, normalise
from tenfold.data.reading.decompress import BrokenStream, CannotExpand, expand
from tenfold.data.reading.encodings import BAD, INVALID_UTF8, NotText, TextDecoder, allowed
from tenfold.data.reading.formats import FileForm, Look, look_at
from tenfold.data.reading.inputs import InputFile
from tenfold.data.reading.json_records import LIMIT_KEY, BadJson, json_values
from tenfold.data.reading.parquet_records import UnreadableParquet, parquet_cells

MISSING_KEY, NOT_TEXT, UNREADABLE = "missing-key", "not-text", "unreadable"
FREE_EXPANSION = 16 << 20
"""Bytes that any file may decompress to."""
EXPANSION_KEY = "data.read.max_expansion"
BROKEN = (BrokenStream, CannotExpand, NotText, UnreadableParquet, OSError, UnicodeError)


@dataclass(frozen=True)
class Reader:
    """How the files of one source are read: each file alone, so that any process may read any of them."""

    name: str
    """Of the source."""
    kind: str
    base: Path
    text_key: str = "text"
    encoding: str | None = None
    read: Read = field(default_factory=Read)
    clean: Clean | None = None
    """Limits of documents; None for an evaluation set, whose texts are neither cut nor too short."""
    split_bytes: int = 0
    """Longer texts are cut into documents of at most this size (0: never)."""

    def documents(self, file: InputFile) -> Iterator[Found]:
        """Everything in a file, in order. Raises nothing for what is wrong with the file: that is a Reject."""
        found = self._found(file)
        yield from within_limits(found, self.clean) if self.clean else found

    def _found(self, file: InputFile) -> Iterator[Found]:
        where = file.shown(self.base) if self.kind == "files" else file.name
        try:
            look = look_at(file)
        except OSError as error:
            yield Reject(self.name, where, UNREADABLE, error.strerror or str(error), file.size)
            return
        match self.kind:
            case "parquet":
                yield from self._of_parquet(file, look, where)
            case _ if look.form in (FileForm.OTHER, FileForm.PARQUET):
                yield Reject(self.name, where, look.reason or "binary", look.detail or look.form, file.size)
            case "jsonl":
                yield from self._of_json(file, look, where)
            case _:
                yield from self._of_text(file, look, where)

    def _of_text(self, file: InputFile, look: Look, where: str) -> Iterator[Found]:
        decoder, broken = self._decoder(), list[Exception]()
        yield from self._pieces(normalise(self._texts(file, look, decoder, broken)), where, broken)
        yield from self._losses(decoder, broken, where, file)

    def _texts(self, file: InputFile, look: Look, decoder: TextDecoder, broken: list[Exception]) -> Iterator[str]:
        """The text of a file as far as it can be read; what ended it early is laid into `broken`."""
        try:
            yield from decoder.decode(_blocks(file, look.method, self.read.max_expansion))
        except BROKEN as error:
            broken.append(error)

    def _pieces(self, texts: Iterator[str], where: str, broken: list[Exception]) -> Iterator[Found]:
        """Documents of one text, numbered where it makes more than one; none where it broke off before its first."""
        parts = cut_stream(texts, self.split_bytes) if self.split_bytes else self._whole(texts, where)
        first, second = next(parts, ""), next(parts, None)
        if isinstance(first, Reject):
            yield first
        elif second is None:
            if first or not broken:
                yield Document(self.name, where, first)
        else:
            for number, text in enumerate(chain((first, second), parts), start=1):
                yield Document(self.name, f"{where}#{number}", str(text))

    def _whole(self, texts: Iterator[str], where: str) -> Iterator[str | Reject]:
        """A text that is not cut, if it is not too large to be held."""
        most = min(self.read.max_record_bytes, self.clean.max_bytes if self.clean else self.read.max_record_bytes)
        parts, size = list[str](), 0
        for text in texts:
            size += len(text.encode())
            parts = [*parts, text] if size <= most else []
        if size <= most:
            yield "".join(parts)
        elif self.clean and most == self.clean.max_bytes:
            yield Reject(self.name, where, "too-long", f"{size} bytes, at most {most}", size)
        else:
            yield Reject(self.name, where, *_too_large(size, most), size)

    def _of_json(self, file: InputFile, look: Look, where: str) -> Iterator[Found]:
        decoder, broken = self._decoder(), list[Exception]()
        items = json_values(self._texts(file, look, decoder, broken), self.read.max_record_bytes)
        for item, following in pairwise(chain(items, (None,))):
            if isinstance(item, BadJson):
                if following is not None or not broken:  # else it is where the file breaks off, which is said below
                    yield Reject(self.name, f"{where}:{item.number}", item.reason, item.detail, item.size)
            elif item is not None:
                yield from self.record(item.value, f"{where}:{item.number}", item.size)
        yield from self._losses(decoder, broken, where, file)

    def record(self, value: Any, where: str, size: int = 0) -> Iterator[Found]:
        """Documents of one record of keys and values, which took `size` bytes."""
        if not isinstance(value, dict):
            yield Reject(self.name, where, "not-an-object", type(value).__name__, size)
        elif self.text_key not in value:
            yield Reject(self.name, where, MISSING_KEY, ", ".join(map(str, value)), size)
        elif isinstance(text := value[self.text_key], str):
            yield from self._of_string(text, where)
        else:
            yield Reject(self.name, where, NOT_TEXT, f"{self.text_key} is {type(text).__name__}", size)

    def row(self, value: Any, where: str) -> Iterator[Found]:
        """As `record`, its documents within the limits: of a source that is not made of files."""
        found = self.record(value, where)
        yield from within_limits(found, self.clean) if self.clean else found

    def _of_string(self, text: str, where: str) -> Iterator[Found]:
        mended = text.encode("utf-8", errors="replace").decode() if _has_surrogates(text) else text
        replaced = sum(0xD800 <= ord(character) < 0xE000 for character in text) if mended is not text else 0
        if nulls := mended.count("\0"):
            mended, replaced = mended.replace("\0", BAD), replaced + nulls
        if replaced > allowed(len(text), self.read.max_replaced):
            reason = "binary" if nulls else INVALID_UTF8
            yield Reject(self.name, where, reason, f"{replaced:,} of {len(text):,} characters are none", len(text))
            return
        yield from self._documents_of(mended, where)
        if replaced:
            yield Mended(self.name, where, "utf-8", replaced)

    def _documents_of(self, text: str, where: str) -> Iterator[Document]:
        parts = cut_text(unicodedata.normalize("NFC", text), self.split_bytes)
        for number, part in enumerate(parts, start=1):
            yield Document(self.name, where if len(parts) == 1 else f"{where}#{number}", part)

    def _of_parquet(self, file: InputFile, look: Look, where: str) -> Iterator[Found]:
        if (wrong := self._column_is_wrong(file, look, where)) is not None:
            yield wrong
            return
        most, size = max(FREE_EXPANSION, self.read.max_expansion * file.size), 0
        try:
            for row, cell in parquet_cells(file, self.text_key):
                size += len(cell) if isinstance(cell, bytes) else 0
                if size > most:
                    raise _too_far(file, self.read.max_expansion)
                yield from self._of_cell(cell, f"{where}:{row}")
        except BROKEN as error:
            yield Reject(self.name, where, *_why(error))

    def _column_is_wrong(self, file: InputFile, look: Look, where: str) -> Reject | None:
        if look.form != FileForm.PARQUET:
            detail = look.detail or "not a parquet file: no PAR1 at its beginning"
            return Reject(self.name, where, look.reason or UNREADABLE, detail, file.size)
        if self.text_key in look.text_keys:
            return None
        typed = next((key for key in look.keys if key.startswith(f"{self.text_key} (")), None)
        if typed is None:
            return Reject(self.name, where, MISSING_KEY, ", ".join(look.keys), file.size)
        return Reject(self.name, where, NOT_TEXT, f"column {typed} holds no text", file.size)

    def _of_cell(self, cell: bytes | UnreadableParquet | None, where: str) -> Iterator[Found]:
        if isinstance(cell, UnreadableParquet):
            yield Reject(self.name, where, UNREADABLE, str(cell))
            return
        if cell is None:
            yield Reject(self.name, where, NOT_TEXT, "null")
            return
        if len(cell) > self.read.max_record_bytes:
            yield Reject(self.name, where, *_too_large(len(cell), self.read.max_record_bytes), len(cell))
            return
        decoder = self._decoder()
        try:
            text = "".join(decoder.decode(iter([cell])))
        except NotText as error:
            yield Reject(self.name, where, error.reason, str(error), len(cell))
            return
        yield from self._documents_of(text, where)
        yield from self._mended(decoder, where)

    def _decoder(self) -> TextDecoder:
        return TextDecoder(self.encoding, self.read.max_replaced)

    def _mended(self, decoder: TextDecoder, where: str) -> Iterator[Mended]:
        if decoder.replaced or decoder.encoding not in ("", "utf-8"):
            yield Mended(self.name, where, decoder.encoding, decoder.replaced, decoder.is_guess)

    def _losses(self, decoder: TextDecoder, broken: list[Exception], where: str, file: InputFile) -> Iterator[Found]:
        """What ended a file early, with the bytes not read where that can be told; and what was mended before."""
        for error in broken:
            yield Reject(self.name, where, *_why(error), max(0, file.size - decoder.size))
        yield from self._mended(decoder, where)


def _too_large(size: int, most: int) -> tuple[str, str]:
    return "too-large", f"{byte_size(size)}, at most {byte_size(most)} ({LIMIT_KEY})"


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _blocks(file: InputFile, method: str | None, max_expansion: float) -> Iterator[bytes]:
    """The bytes of a file, decompressed up to that many times its size."""
    size, most = 0, max(FREE_EXPANSION, max_expansion * file.size)
    with file.opened() as raw:
        for block in expand(raw, method):
            size += len(block)
            if method is not None and size > most:
                raise _too_far(file, max_expansion)
            yield block


class ExpandsTooFar(BrokenStream):
    """A small file that becomes a huge text."""


def _too_far(file: InputFile, max_expansion: float) -> ExpandsTooFar:
    return ExpandsTooFar(
        f"more than {max_expansion:g} times its {byte_size(file.size)}; what follows is not read ({EXPANSION_KEY})"
    )


def _why(error: Exception) -> tuple[str, str]:
    """Reason and detail of a reject."""
    match error:
        case ExpandsTooFar():
            return "expands-too-far", str(error)
        case BrokenStream():
            return "truncated-stream", str(error)
        case NotText() | CannotExpand():
            return error.reason, str(error)
        case OSError():
            return UNREADABLE, error.strerror or str(error)
        case _:
            return UNREADABLE, str(error)


def read_each(reader: Reader, files: Iterable[InputFile]) -> Iterator[Found]:
    """The documents of files one after the other."""
    for file in files:
        yield from reader.documents(file)
