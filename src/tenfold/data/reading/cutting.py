"""Long texts in parts, whole or as they come in: NFC, and cut where it hurts least."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

SAFE = re.compile(r"[\x00-\u02ff\u0370-\u0482\u3041-\u3096\u30a1-\u30fa\u3400-\u9fff\uac00-\ud7a3]")
"""Characters that never combine with what stands before them, so that text can be normalised up to each of them."""
LONGEST_CHARACTER = 4
"""Bytes."""
LONGEST_CLUSTER = 1 << 16
"""Characters after which text is normalised up to, wherever that is."""


def normalise(texts: Iterable[str]) -> Iterator[str]:
    """NFC of texts that belong together, piece by piece; joined it is the NFC of all of them joined."""
    held = ""
    for text in texts:
        held += text
        end = _last_safe(held)
        if end:
            yield unicodedata.normalize("NFC", held[:end])
            held = held[end:]
    if held:
        yield unicodedata.normalize("NFC", held)


def _last_safe(text: str) -> int:
    """Where the last safe character stands; the end where none is near."""
    for place in range(len(text) - 1, max(0, len(text) - LONGEST_CLUSTER), -1):
        if SAFE.match(text, place):
            return place
    return len(text) if len(text) > LONGEST_CLUSTER else 0


def cut_text(text: str, size: int) -> list[str]:
    """The text in parts of at most `size` bytes (0: whole), few below half of it; joined they are the text.

    Cut after a blank line, else after a line, else after a space, else between characters.
    """
    return list(cut_stream([text], size)) or [""]


def cut_stream(texts: Iterable[str], size: int) -> Iterator[str]:
    """The parts of a text that comes piece by piece: the same parts, however it comes."""
    if not size:
        yield from filter(None, ["".join(texts)])
        return
    content, start, size = b"", 0, max(size, LONGEST_CHARACTER)
    for text in texts:
        content, start = content[start:] + text.encode(), 0
        while len(content) - start >= 2 * size:
            end = _boundary(content, start, size // 2, size)
            yield content[start:end].decode()
            start = end
    while len(content) - start > size:
        left = len(content) - start
        # the last two parts share what is left, so that no crumb remains
        ideal = size if left >= 2 * size else (left + 1) // 2
        end = _boundary(content, start, max(ideal // 2, left - size if left < 2 * size else 0), ideal)
        yield content[start:end].decode()
        start = end
    if len(content) > start:
        yield content[start:].decode()


def _boundary(content: bytes, start: int, least: int, most: int) -> int:
    """The best place to cut a part that begins at `start`, of more than `least` bytes and at most `most`."""
    low, high = start + least, start + most
    for mark in (b"\n\n", b"\n", b" "):
        place = content.rfind(mark, low, high)
        if place >= 0 and place + len(mark) > low:
            return place + len(mark)
    while content[high] & 0xC0 == 0x80:  # never inside a character
        high -= 1
    if high == start:  # a part is at least one character
        high += 1
        while content[high] & 0xC0 == 0x80:
            high += 1
    return high
