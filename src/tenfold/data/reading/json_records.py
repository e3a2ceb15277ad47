"""JSON values one after the other, out of text that comes piece by piece: lines, a list, or objects without commas."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tenfold.core import byte_size

SPACE = re.compile(r"[\s\x1e]*")
NEXT_OBJECT = re.compile(r"\}\s*,?\s*(?=\{)")
DECODER = json.JSONDecoder()
LIMIT_KEY = "data.read.max_record_bytes"


@dataclass(frozen=True)
class JsonValue:
    """One value: the line it stands on, or its place in the list."""

    number: int
    value: Any
    size: int
    """Characters it was written with."""


@dataclass(frozen=True)
class BadJson:
    """What is no JSON, and was left out: `reason` as in rejects.jsonl."""

    number: int
    reason: str
    detail: str
    size: int


JsonItem = JsonValue | BadJson


def json_values(texts: Iterable[str], limit: int) -> Iterator[JsonItem]:
    """Every value of a text of JSON, none longer than `limit` characters; what comes first says how it is written.

    A list gives its items. Lines are read one by one, so that a bad one costs itself alone; where the first line is no
    whole value, values may run over lines.
    """
    source = iter(texts)
    head = ""
    for text in source:
        head += text
        if len(head) > limit or "\n" in head.lstrip():
            break
    start = SPACE.match(head).end()  # type: ignore[union-attr]
    pieces = _chained(head, source)
    if head.startswith("[", start):
        return _items(pieces, limit)
    line = head[start:].partition("\n")[0]
    if head.startswith("{", start) and "\n" in head[start:] and _is_cut_object(line):
        return _objects(pieces, limit)
    return _lines(pieces, limit)


def _chained(head: str, rest: Iterator[str]) -> Iterator[str]:
    yield head
    yield from rest


def _is_cut_object(line: str) -> bool:
    """Whether a line begins an object and ends inside of it, as where JSON is indented."""
    try:
        DECODER.raw_decode(line)
    except json.JSONDecodeError as error:
        return error.pos >= len(line.rstrip()) or not line.rstrip("\r ,{[").strip("{[ ")
    except RecursionError:
        return False
    return False


def _lines(texts: Iterator[str], limit: int) -> Iterator[JsonItem]:
    for number, (line, size) in enumerate(bounded_lines(texts, limit), start=1):
        if line is None:
            yield too_large(number, size, limit)
        elif line.strip():
            yield _parsed(number, line)


def bounded_lines(texts: Iterable[str], limit: int) -> Iterator[tuple[str | None, int]]:
    """Each line with its length; None for one that is longer than `limit`, which is never held as a whole."""
    held: list[str] = []
    size = 0
    for text in texts:
        *ended, rest = text.split("\n")
        for line in ended:
            size += len(line)
            yield ("".join((*held, line)) if size <= limit else None), size
            held, size = [], 0
        size += len(rest)
        held = [*held, rest] if size <= limit else []
    if size:
        yield ("".join(held) if size <= limit else None), size


def _parsed(number: int, text: str) -> JsonItem:
    try:
        return JsonValue(number, json.loads(text), len(text))
    except RecursionError:
        return BadJson(number, "invalid-json", "nested too deeply", len(text))
    except ValueError as error:
        return BadJson(number, "invalid-json", str(error), len(text))


def too_large(number: int, size: int, limit: int) -> BadJson:
    """A value that is not even parsed."""
    return BadJson(number, "too-large", f"{byte_size(size)} or more, at most {byte_size(limit)} ({LIMIT_KEY})", size)


class _Window:
    """The part of a text that is looked at: read on at its end, dropped at its beginning."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts
        self.text, self.place, self.ended = "", 0, False

    def read_on(self) -> None:
        """One more piece, and at least as much as there is: so parsing anew costs little in all."""
        parts, wanted, size = [self.text[self.place :]], len(self.text) - self.place, 0
        self.place = 0
        while size <= wanted:
            if (text := next(self._texts, None)) is None:
                self.ended = True
                break
            parts.append(text)
            size += len(text)
        self.text = "".join(parts)

    def skip(self, more: str = "") -> str:
        """Go to the next character that is neither space nor one of `more`; it, or nothing at the end."""
        while True:
            self.place = SPACE.match(self.text, self.place).end()  # type: ignore[union-attr]
            if self.place == len(self.text):
                if self.ended:
                    return ""
                self.read_on()
            elif self.text[self.place] in more:
                self.place += 1
            else:
                return self.text[self.place]

    def value(self, limit: int) -> tuple[Any, int] | str:
        """The value here and its length, or why there is none."""
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.place)
            except RecursionError:
                return "nested too deeply"
            except ValueError as error:
                if self.ended:
                    return str(error)
                if len(self.text) - self.place > limit:
                    return f"no whole value in {byte_size(limit)} ({LIMIT_KEY}): {error}"
                self.read_on()
                continue
            if end == len(self.text) and not self.ended:  # a number may go on
                self.read_on()
                continue
            size = end - self.place
            self.place = end
            return value, size

    def skip_broken(self) -> int:
        """Go to the object after the next `},`, else to the end; returns the characters left out."""
        left_out = 0
        while (match := NEXT_OBJECT.search(self.text, self.place)) is None:
            if self.ended:
                left_out += len(self.text) - self.place
                self.place = len(self.text)
                return left_out
            keep = max(self.place, len(self.text) - 64)
            left_out += keep - self.place
            self.place = keep
            self.read_on()
        left_out += match.end() - self.place
        self.place = match.end()
        return left_out


def _items(texts: Iterator[str], limit: int) -> Iterator[JsonItem]:
    window = _Window(texts)
    window.skip()
    window.place += 1
    number = 0
    while (character := window.skip(",")) not in ("]", ""):
        number += 1
        yield _value(window, number, limit)
    if not character:
        yield BadJson(number + 1, "truncated-stream", "the list does not end", 0)
        return
    window.place += 1
    if window.skip():
        yield BadJson(
            number + 1, "invalid-json", "something follows the end of the list", len(window.text) - window.place
        )


def _objects(texts: Iterator[str], limit: int) -> Iterator[JsonItem]:
    window, number = _Window(texts), 0
    while window.skip(","):
        number += 1
        yield _value(window, number, limit)


def _value(window: _Window, number: int, limit: int) -> JsonItem:
    found = window.value(limit)
    if isinstance(found, tuple):
        return JsonValue(number, *found)
    return BadJson(number, "invalid-json", found, window.skip_broken())
