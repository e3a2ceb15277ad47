"""From a raw record to documents, or to the reason it is none; counts of both."""

import builtins
import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tenfold.config import Clean


@dataclass(frozen=True)
class Document:
    """Clean text of one record. `where` says where it stood: a path, or a path and a record number."""

    source: str
    where: str
    text: str


@dataclass(frozen=True)
class RawRecord:
    """One record as a source gives it, before cleaning."""

    source: str
    where: str
    content: bytes


@dataclass(frozen=True)
class Reject:
    """A record that was not kept: where it stood, why, and how many bytes it had, as far as they could be read."""

    source: str
    where: str
    reason: str
    detail: str = ""
    bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As in rejects.jsonl."""
        return asdict(self)

    def to_line(self) -> "builtins.bytes":
        """As a line of rejects.jsonl."""
        return json.dumps(self.to_dict(), ensure_ascii=True).encode() + b"\n"


@dataclass
class Funnel:
    """Documents and bytes that entered the build, and where each of them went.

    A text that was cut counts as the documents it was cut into. Bytes in are those of the records as read; NFC, a byte
    order mark taken off and separators of cut-out text account for what does not add up to the byte.
    """

    documents_in: int = 0
    bytes_in: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    """Records rejected by cleaning, by reason."""
    rejected_bytes: dict[str, int] = field(default_factory=dict)
    holdout_rejected: dict[str, int] = field(default_factory=dict)
    """Records of evaluation sets that could not be used, by reason; not among `documents_in`."""
    exact_duplicates: int = 0
    exact_duplicates_bytes: int = 0
    near_duplicates: int = 0
    near_duplicates_bytes: int = 0
    held_out: int = 0
    """Documents held out, and near-copies of held-out ones."""
    held_out_bytes: int = 0
    contaminated: int = 0
    """Documents that lost text because a holdout has it too; dropped if too little is left."""
    contaminated_bytes: int = 0
    dropped_after_decontamination: int = 0
    documents_kept: int = 0
    bytes_kept: int = 0

    def note_reject(self, reject: Reject) -> None:
        """Count a record that cleaning rejected."""
        self.rejected[reject.reason] = self.rejected.get(reject.reason, 0) + 1
        self.rejected_bytes[reject.reason] = self.rejected_bytes.get(reject.reason, 0) + reject.bytes

    def add(self, other: Mapping[str, Any]) -> None:
        """Add what `to_dict` of another one says."""
        for name, value in other.items():
            before = getattr(self, name)
            if isinstance(value, dict):
                setattr(self, name, before | {key: before.get(key, 0) + more for key, more in value.items()})
            else:
                setattr(self, name, before + value)

    def to_dict(self) -> dict[str, Any]:
        """As in the manifest."""
        return asdict(self)


FEWEST_PARTS = 20
SMALLEST_PART = 1024  # bytes


def decode(record: RawRecord) -> Document | Reject:
    """Strict UTF-8, no NUL, no byte order mark, NFC."""
    size = len(record.content)
    try:
        text = record.content.decode("utf-8")
    except UnicodeDecodeError as error:
        return Reject(record.source, record.where, "invalid-utf8", f"byte {error.start}: {error.reason}", size)
    if "\0" in text:
        return Reject(record.source, record.where, "binary", f"NUL at character {text.index(chr(0))}", size)
    return Document(record.source, record.where, unicodedata.normalize("NFC", text.removeprefix("\ufeff")))


def clean(record: RawRecord, limits: Clean, split_bytes: int) -> Iterator[Document | Reject]:
    """The documents of a record: decoded, cut to `split_bytes` (0: never), within the length limits (in bytes)."""
    whole = decode(record)
    if isinstance(whole, Reject):
        yield whole
        return
    parts = cut_text(whole.text, split_bytes)
    for number, text in enumerate(parts, start=1):
        where = whole.where if len(parts) == 1 else f"{whole.where}#{number}"
        size = len(text.encode())
        if size < limits.min_bytes:
            yield Reject(whole.source, where, "too-short", f"{size} bytes, at least {limits.min_bytes}", size)
        elif size > limits.max_bytes:
            yield Reject(whole.source, where, "too-long", f"{size} bytes, at most {limits.max_bytes}", size)
        else:
            yield Document(whole.source, where, text)


def part_size(sizes: list[int], split_bytes: int) -> int:
    """Where to cut the texts of a source of files of these sizes: a few files must still make many documents."""
    if not split_bytes or len(sizes) >= FEWEST_PARTS:
        return split_bytes
    return min(split_bytes, max(SMALLEST_PART, sum(sizes) // FEWEST_PARTS))


def cut_text(text: str, size: int) -> list[str]:
    """The text in parts of at most `size` bytes (0: whole), few below half of it; joined they are the text.

    Cut after a blank line, else after a line, else after a space, else between characters.
    """
    content = text.encode()
    if not size or len(content) <= size:
        return [text]
    parts, start = [], 0
    while len(content) - start > size:
        left = len(content) - start
        # the last two parts share what is left, so that no crumb remains
        ideal = size if left >= 2 * size else (left + 1) // 2
        end = _boundary(content, start + max(ideal // 2, left - size if left < 2 * size else 0), start + ideal)
        parts.append(content[start:end].decode())
        start = end
    return [*parts, content[start:].decode()]


def _boundary(content: bytes, low: int, high: int) -> int:
    """The best place to cut in (low, high]."""
    for mark in (b"\n\n", b"\n", b" "):
        place = content.rfind(mark, low, high)
        if place >= 0 and place + len(mark) > low:
            return place + len(mark)
    while high > low + 1 and content[high] & 0xC0 == 0x80:  # never inside a character
        high -= 1
    return high
