"""A document on its way through the build, and where a record that is no document went wrong."""

from dataclasses import asdict, dataclass
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
    """A record that was not kept: where it stood and why."""

    source: str
    where: str
    reason: str
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As a line of rejects.jsonl."""
        return asdict(self)


@dataclass(frozen=True)
class Progress:
    """How far one stage of the build is. `total` is None while unknown."""

    stage: str
    done: int
    total: int | None
    unit: str


@dataclass
class Funnel:
    """Documents and bytes that entered the build, and where each of them went."""

    documents_in: int = 0
    bytes_in: int = 0
    rejected: dict[str, int] | None = None
    """Records rejected by cleaning, by reason."""
    exact_duplicates: int = 0
    near_duplicates: int = 0
    held_out: int = 0
    contaminated: int = 0
    """Documents that lost text because a holdout has it too; dropped if too little is left."""
    contaminated_bytes: int = 0
    dropped_after_decontamination: int = 0
    documents_kept: int = 0
    bytes_kept: int = 0
