"""Documents of a build in progress, on disk: text one after the other, word hashes beside it."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tenfold.data.words import hash_words

Hashes = NDArray[np.uint64]
NO_WORDS: Hashes = np.empty(0, dtype=np.uint64)


@dataclass
class DocumentStore:
    """Append documents, then read them back by number. Memory holds offsets only."""

    directory: Path
    with_words: bool = True
    """Whether to hash the words of each document too."""
    sources: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    _text_ends: list[int] = field(default_factory=lambda: [0])
    _word_ends: list[int] = field(default_factory=lambda: [0])

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._text = (self.directory / "text").open("w+b")
        self._words = (self.directory / "words").open("w+b")
        return self

    def __exit__(self, *_: object) -> None:
        with closing(self._words):  # also where a full disk keeps the text from being flushed
            self._text.close()

    def __len__(self) -> int:
        return len(self.sources)

    def append(self, source: str, where: str, text: str) -> int:
        """Add a document; returns its number."""
        content = text.encode()
        self._text.seek(0, os.SEEK_END)  # a read may have left it elsewhere
        self._text.write(content)
        hashes = hash_words(text) if self.with_words else NO_WORDS
        self._words.seek(0, os.SEEK_END)
        self._words.write(hashes.tobytes())
        self.sources.append(source)
        self.where.append(where)
        self._text_ends.append(self._text_ends[-1] + len(content))
        self._word_ends.append(self._word_ends[-1] + hashes.size)
        return len(self.sources) - 1

    def size(self, number: int) -> int:
        """Bytes of a document."""
        return self._text_ends[number + 1] - self._text_ends[number]

    def text(self, number: int) -> str:
        """Text of a document."""
        self._text.seek(self._text_ends[number])
        return self._text.read(self.size(number)).decode()

    def words(self, number: int) -> Hashes:
        """Hash of each word of a document, in order."""
        first, last = self._word_ends[number], self._word_ends[number + 1]
        self._words.seek(first * 8)
        return np.frombuffer(self._words.read((last - first) * 8), dtype=np.uint64)

    def of_source(self, source: str) -> Iterator[int]:
        """Numbers of one source's documents, in order."""
        return (number for number, name in enumerate(self.sources) if name == source)
