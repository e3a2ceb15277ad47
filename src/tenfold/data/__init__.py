"""From raw text to an isolated, tokenised, seekable corpus. Front door of the room."""

from tenfold.data.manifest import Manifest
from tenfold.data.records import Progress
from tenfold.data.stream import Stream

__all__ = ["Manifest", "Progress", "Stream"]
