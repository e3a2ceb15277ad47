"""What a link is really worth."""

import threading
from dataclasses import dataclass, field

SMOOTHING = 0.8


@dataclass
class LinkMeasure:
    """Bytes moved, and smoothed bandwidth (bytes/s) and latency (s, of a control message there and back)."""

    sent: int = 0
    received: int = 0
    bandwidth: float = 0.0
    latency: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def moved(self, sent: int, received: int, seconds: float) -> None:
        """The pieces of a blob went through, those that were missing, in this time without what was said before."""
        if not sent + received:
            return
        with self._lock:
            self.sent, self.received = self.sent + sent, self.received + received
            self.bandwidth = _smoothed(self.bandwidth, (sent + received) / max(seconds, 1e-6))

    def answered(self, seconds: float) -> None:
        """A control message was answered at once."""
        with self._lock:
            self.latency = _smoothed(self.latency, seconds)


def _smoothed(before: float, now: float) -> float:
    return SMOOTHING * before + (1 - SMOOTHING) * now if before else now
