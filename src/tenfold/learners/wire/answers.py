"""What the two ends of a link are to each other."""

from dataclasses import dataclass
from typing import Any, Protocol

from tenfold.core.errors import TenfoldError


class Refused(TenfoldError):
    """The other side said no, with its reason. Asking again is no use."""


class NotAdmitted(Refused):
    """The other side does not know the token."""

    exit_code = 2


class Unreachable(TenfoldError):
    """The other side could not be reached, or could not do it, for as long as there was patience."""


@dataclass(frozen=True)
class Blob:
    """Bytes to be fetched, and what there is to say about them."""

    header: dict[str, Any]
    data: bytes | memoryview


class Handler(Protocol):
    """What a server does. Called from many threads; each method may raise Refused.

    Any other TenfoldError means "not now" (a full disk, say): the client tries again.
    """

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a control message."""

    def admit(self, key: str, header: dict[str, Any], size: int) -> None:
        """Asked before any byte of a blob is taken."""

    def receive(self, key: str, header: dict[str, Any], data: memoryview) -> dict[str, Any]:
        """A blob is here, whole, its digest checked; what is returned reaches the sender."""

    def blob(self, key: str) -> Blob:
        """A blob to be fetched."""

    def rejected(self, reason: str) -> None:
        """Told of everything that was refused: wrong tokens and malformed messages too."""
