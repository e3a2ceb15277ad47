"""A document on its way through the build, and where a record that is no document went wrong."""

from dataclasses import asdict, dataclass, field
from typing import Any


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
        """As a line of rejects.jsonl."""
        return asdict(self)


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
