"""Faults that overlap: a state that several hold begins with the first and ends with the last."""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass

Undo = Callable[[], None]


@dataclass
class _Held:
    holders: int
    end: Undo


class Overlap:
    """Counts who holds what. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Hashable, _Held] = {}

    def hold(self, key: Hashable, begin: Callable[[], Undo]) -> Undo:
        """One more holder of `key`; what it returns lets go of it, to be called once.

        For the first holder `begin` is called; what `begin` returned is called for the last to let go. What `begin`
        raises leaves no holder behind.
        """
        with self._lock:
            if key not in self._held:
                self._held[key] = _Held(0, begin())
            self._held[key].holders += 1
        return lambda: self._release(key)

    def _release(self, key: Hashable) -> None:
        with self._lock:
            held = self._held[key]
            held.holders -= 1
            if not held.holders:
                del self._held[key]
                held.end()
