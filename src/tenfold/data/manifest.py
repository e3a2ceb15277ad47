"""The corpus on disk, described: every file with its hash, every count. Written last; what it names exists."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.config import Data, digestible
from tenfold.core import CampaignFiles, InputError, digest_of, digest_of_file, read_json

FORMAT = 2
"""Raised by whoever changes which corpus a configuration gives: then older corpora are built again. Else the code may
change and they stand."""
MANIFEST = "manifest.json"
COMMON = "holdouts/common.bin"
COMMON_DTYPE = np.dtype("<i4")
LATER_COUNTS = {"mended", "replaced", "by_source"}
"""Counts of the funnel that the digest of a corpus is without, as it was before there were any."""


@dataclass(frozen=True)
class Shard:
    """One file of tokens."""

    file: str
    sha256: str
    tokens: int


@dataclass(frozen=True)
class SourceText:
    """What one source gave to training. `bytes` of UTF-8, exact, so bits per byte never depend on the tokenizer."""

    name: str
    documents: int
    bytes: int
    tokens: int
    weight: float | None
    licence: str | None
    shards: list[Shard]


@dataclass(frozen=True)
class HoldoutText:
    """One holdout. The file holds its documents' tokens one after the other, each ended by end-of-document."""

    name: str
    kind: str
    documents: int
    bytes: int
    tokens: int
    file: str
    sha256: str


@dataclass(frozen=True)
class IsolatedText:
    """Text that is kept out of training without being scored, stored like a holdout: what `max_bytes` leaves of an
    evaluation set, and tenfold's own source."""

    name: str
    documents: int
    bytes: int
    tokens: int
    file: str
    sha256: str


@dataclass(frozen=True)
class CommonText:
    """What the holdouts have in common with many training documents, and so is no leak of one (`frequency`).

    The file has three int32 for each window: the length of the run in words (0: a shingle), the held-out document, in
    the order of `Manifest.held_out`, and its first word. `documents` is how many training documents were counted.
    """

    file: str
    sha256: str
    windows: int
    documents: int


@dataclass(frozen=True)
class Manifest:
    """What manifest.json holds: every file of the corpus with its hash, every count."""

    made_from: str
    """Format of the corpus and digest of configuration, seed, libraries and input files; without the format, and with
    the code, in a corpus built before there were formats."""
    tokenizer_file: str
    tokenizer_sha256: str
    vocab_size: int
    end_of_document: int
    dtype: str
    ngram: int
    sources: list[SourceText]
    holdouts: list[HoldoutText]
    funnel: dict[str, Any]
    isolated: list[IsolatedText] = field(default_factory=list)
    asked_for: str = ""
    """Hash of [data] and seed alone: what the corpus is of, whatever the files say today."""
    common: CommonText | None = None
    """None in a corpus of before: nothing was common."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """The files it was built from, counted; empty in a corpus of before they were."""

    @classmethod
    def load(cls, directory: Path) -> "Manifest":
        """Read the manifest of a corpus. Raises InputError when it is missing or broken."""
        path = directory / MANIFEST
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(f"{path}: no corpus here; build it with `tenfold data {directory.parent}`") from None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(f"{path}: not a whole manifest ({error}); delete it and build again") from None

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Manifest":
        """From what `to_dict` gives, keys that came later at their defaults. Raises KeyError or TypeError."""
        sources = [
            SourceText(**{**source, "shards": [Shard(**shard) for shard in source["shards"]]})
            for source in record["sources"]
        ]
        holdouts = [HoldoutText(**holdout) for holdout in record["holdouts"]]
        isolated = [IsolatedText(**text) for text in record["isolated"]]
        common = CommonText(**found) if (found := record.get("common")) else None
        return cls(**{**record, "sources": sources, "holdouts": holdouts, "isolated": isolated, "common": common})

    @property
    def held_out(self) -> list[HoldoutText | IsolatedText]:
        """All text that is kept out of training, scored or not."""
        return [*self.holdouts, *self.isolated]

    def to_dict(self) -> dict[str, Any]:
        """As in manifest.json."""
        return asdict(self)

    @cached_property
    def digest(self) -> str:
        """sha256 over everything that is trained on or scored: the same text from elsewhere is the same corpus, and so
        is it beside another version of tenfold's own source."""
        content = self.to_dict() | {"made_from": None, "asked_for": None, "isolated": None}
        del content["inputs"], content["common"]  # came later, as did some counts
        content["funnel"] = {name: value for name, value in self.funnel.items() if name not in LATER_COUNTS}
        return digest_of(content)

    @property
    def has_format_of_now(self) -> bool:
        """Whether today's rules made it."""
        return self.made_from.startswith(f"{FORMAT}:")

    @property
    def tokens(self) -> int:
        """Training tokens."""
        return sum(source.tokens for source in self.sources)

    def verify(self, directory: Path) -> int:
        """Check the hash of every file; returns how many. Raises InputError naming the first that differs."""
        files = {shard.file: shard.sha256 for source in self.sources for shard in source.shards}
        files |= {text.file: text.sha256 for text in self.held_out}
        files[self.tokenizer_file] = self.tokenizer_sha256
        if self.common:
            files[self.common.file] = self.common.sha256
        for name, expected in files.items():
            path = directory / name
            try:
                actual = digest_of_file(path)
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror}); build the corpus again") from error
            if actual != expected:
                raise InputError(
                    f"{path}: damaged: its sha256 is {actual[:12]}…, the manifest says {expected[:12]}…; "
                    f"delete {directory / MANIFEST} and build again"
                )
        return len(files)


def asked_for(data: Data, seed: int) -> str:
    """Hash of what the user asked for: [data] and the seed."""
    return digest_of([digestible(data), seed])


def audit_passed(files: CampaignFiles, manifest: Manifest) -> bool:
    """Whether the audit that lies beside the corpus is of this corpus and passed."""
    recorded = read_json(files.audit) or {}
    try:
        of_this = Manifest.from_dict(recorded["manifest"]) == manifest
    except (KeyError, TypeError):
        return False
    return of_this and recorded.get("ok") is True
