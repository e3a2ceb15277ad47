"""What a record comes to: documents, or the reason it is none; counts of both."""

import json
from collections.abc import Iterator
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


@dataclass(frozen=True)
class Mended:
    """Text that was kept, but not byte for byte: in another encoding than UTF-8, or with bad bytes replaced."""

    source: str
    where: str
    encoding: str
    replaced: int
    """Bad bytes, NULs and halves of surrogate pairs that became U+FFFD."""
    is_guess: bool = False
    """Whether a detector named the encoding."""

    def to_dict(self) -> dict[str, Any]:
        """As in rejects.jsonl, which says that it was kept."""
        detail = f"read as {self.encoding}" + (", a guess" if self.is_guess else "")
        detail += f", {self.replaced:,} bad bytes replaced" if self.replaced else ""
        return {"source": self.source, "where": self.where, "reason": "mended", "detail": detail, "kept": True}


def reject_line(found: Reject | Mended) -> bytes:
    """A line of rejects.jsonl."""
    return json.dumps(found.to_dict(), ensure_ascii=True).encode() + b"\n"


Found = Document | Reject | Mended
"""What reading gives."""


@dataclass
class Funnel:
    """Documents and bytes that entered the build, and where each of them went.

    A text that was cut counts as the documents it was cut into. Bytes are those of the text in UTF-8; what was not
    decoded counts as it is stored. Separators of cut-out text account for what does not add up to the byte.
    """

    documents_in: int = 0
    bytes_in: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    """Records rejected by cleaning, by reason."""
    rejected_bytes: dict[str, int] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)
    """Texts read in another encoding than UTF-8, by encoding; those that a detector named end in `?`."""
    replaced: dict[str, int] = field(default_factory=dict)
    """Bad bytes replaced by U+FFFD, by source."""
    by_source: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of each source: `documents` and `bytes` read, and bytes lost by reason, `documents REASON` and `bytes REASON`."""
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

    def count(self, found: Found) -> None:
        """Count what reading gave."""
        if isinstance(found, Mended):
            if found.encoding != "utf-8":
                _add(self.mended, found.encoding + ("?" if found.is_guess else ""), 1)
            if found.replaced:
                _add(self.replaced, found.source, found.replaced)
            return
        size = len(found.text.encode()) if isinstance(found, Document) else found.bytes
        self.documents_in += 1
        self.bytes_in += size
        mine = self.by_source.setdefault(found.source, {})
        _add(mine, "documents", 1)
        _add(mine, "bytes", size)
        if isinstance(found, Reject):
            for counts, what in ((self.rejected, found.reason), (mine, f"documents {found.reason}")):
                _add(counts, what, 1)
            for counts, what in ((self.rejected_bytes, found.reason), (mine, f"bytes {found.reason}")):
                _add(counts, what, size)

    def to_dict(self) -> dict[str, Any]:
        """As in the manifest."""
        return asdict(self)

    def add(self, other: "Funnel") -> None:
        """Count what another one counted."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            setattr(self, name, _sum(mine, value))


def _add(counts: dict[str, int], name: str, number: int) -> None:
    counts[name] = counts.get(name, 0) + number


def _sum(one: Any, other: Any) -> Any:
    if not isinstance(one, dict):
        return one + other
    return {
        name: _sum(one[name], other[name]) if name in one and name in other else (one | other)[name]
        for name in one | other
    }


FEWEST_PARTS = 20
SMALLEST_PART = 1024  # bytes


def within_limits(found: Iterator[Found], limits: Clean) -> Iterator[Found]:
    """What was found; documents that are too short, too long or nothing but white space as rejects."""
    for each in found:
        if not isinstance(each, Document):
            yield each
            continue
        size = len(each.text.encode())
        if size < limits.min_bytes:
            yield Reject(each.source, each.where, "too-short", f"{size} bytes, at least {limits.min_bytes}", size)
        elif size > limits.max_bytes:
            yield Reject(each.source, each.where, "too-long", f"{size} bytes, at most {limits.max_bytes}", size)
        elif not each.text.strip():
            yield Reject(each.source, each.where, "empty", "nothing but white space", size)
        else:
            yield each


def part_size(sizes: list[int], split_bytes: int) -> int:
    """Where to cut the texts of a source of files of these sizes: a few files must still make many documents."""
    if not split_bytes or len(sizes) >= FEWEST_PARTS:
        return split_bytes
    return min(split_bytes, max(SMALLEST_PART, sum(sizes) // FEWEST_PARTS))
