"""From raw text to an isolated, tokenised, seekable corpus. Front door of the room."""

from tenfold.core.progress import Progress
from tenfold.data.auditing import AuditReport, audit
from tenfold.data.build import build_corpus
from tenfold.data.corpus import HoldoutDocument, load_holdout, token_byte_lengths
from tenfold.data.manifest import Manifest, asked_for
from tenfold.data.paths import sources_of
from tenfold.data.stream import Stream

__all__ = [
    "AuditReport",
    "HoldoutDocument",
    "Manifest",
    "Progress",
    "Stream",
    "asked_for",
    "audit",
    "build_corpus",
    "load_holdout",
    "sources_of",
    "token_byte_lengths",
]
