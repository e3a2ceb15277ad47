"""Byte-level BPE: trained on the training text, or given. Every token stands for known bytes, so nothing is lost."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from tokenizers.pre_tokenizers import PreTokenizer

from tenfold.core import SECONDS, InputError, Progress

END_OF_DOCUMENT = "<|endoftext|>"
Report = Callable[[Progress], None]


class Tokenizer:
    """Text ↔ tokens. The end-of-document token is never made from text, whatever the text says."""

    def __init__(self, tokenizer: HuggingFaceTokenizer) -> None:
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.vocab_size: int = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1  # numbers may have gaps
        end_of_document = tokenizer.token_to_id(END_OF_DOCUMENT)
        assert end_of_document is not None  # train and load both see to it
        self.end_of_document: int = end_of_document
        self.left_out: tuple[str, ...] = ()
        """What a given tokenizer.json does to text that no training text ever shows, and is therefore left out."""

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, report: Report = lambda _: None) -> "Tokenizer":
        """Learn merges from `texts` (Sennrich et al., arXiv 1508.07909, on bytes); fewer where no pair occurs twice."""
        tokenizer = HuggingFaceTokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_DOCUMENT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        _train_beside(tokenizer, trainer, texts, report)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read a tokenizer.json. Raises InputError when it is missing, broken or not byte-level."""
        try:
            text = path.read_text(encoding="utf-8")
            tokenizer = HuggingFaceTokenizer.from_str(text)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{path}: not a tokenizer.json ({error})") from None
        if not _is_byte_level(json.loads(text)):
            raise InputError(f"{path}: not a byte-level tokenizer, so bytes could not be counted exactly; use another")
        left_out = _leave_out_what_is_not_trained(tokenizer)
        tokenizer.add_special_tokens([END_OF_DOCUMENT])  # keeps its number where it has one
        loaded = cls(tokenizer)
        loaded.left_out = left_out
        try:
            _ = loaded.token_bytes
        except KeyError as error:
            raise InputError(f"{path}: not a byte-level tokenizer: {error} stands for no byte; use another") from None
        return loaded

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """A tokenizer from what `to_json` gave."""
        return cls(HuggingFaceTokenizer.from_str(text))

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Tokens of each text."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode_bytes(self, tokens: NDArray[np.integer]) -> bytes:
        """The bytes the tokens stand for; the end-of-document token stands for none."""
        lengths = self.byte_lengths[tokens]
        ends = np.cumsum(lengths)
        begins = self._starts[tokens] - (ends - lengths)
        places = np.repeat(begins, lengths) + np.arange(lengths.sum())
        return bytes(self._all_bytes[places].tobytes())

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes each token stands for, by token."""
        return _bytes_of_tokens(self._tokenizer, self.vocab_size)

    @cached_property
    def byte_lengths(self) -> NDArray[np.int64]:
        """Bytes each token stands for, [vocabulary]."""
        return np.asarray([len(content) for content in self.token_bytes], dtype=np.int64)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Where each token's bytes begin in `_all_bytes`."""
        return np.cumsum(self.byte_lengths) - self.byte_lengths

    @cached_property
    def _all_bytes(self) -> NDArray[np.uint8]:
        return np.frombuffer(b"".join(self.token_bytes), dtype=np.uint8)

    def to_json(self) -> str:
        """As the text of a tokenizer.json."""
        return str(self._tokenizer.to_str())


LONGEST_WORD = 256  # characters; a merge costs as much as the words are long that it occurs in
_MAY_BE_TOO_LONG = re.compile(rf"\S{{{LONGEST_WORD + 1}}}|\s{{{LONGEST_WORD + 1}}}")
SECONDS_BETWEEN_REPORTS = 1.0


def bounded_words(text: str, words: PreTokenizer) -> list[str]:
    """The text in parts without a word longer than LONGEST_WORD; joined they are the text. `words` finds the words."""
    if not _MAY_BE_TOO_LONG.search(text):
        return [text]
    cuts = [0]
    for _, (start, end) in words.pre_tokenize_str(text):
        cuts += range(start + LONGEST_WORD, end, LONGEST_WORD)
    return [text[start:end] for start, end in pairwise([*cuts, len(text)])]


class _Feed:
    """Texts on their way into the training of a tokenizer, words bounded and bytes counted."""

    def __init__(self, texts: Iterable[str], words: PreTokenizer) -> None:
        self._texts, self._words = texts, words
        self.bytes, self.is_done = 0, False

    def __iter__(self) -> Iterator[list[str]]:
        for text in self._texts:
            self.bytes += len(text.encode())
            yield bounded_words(text, self._words)
        self.is_done = True


def _train_beside(
    tokenizer: HuggingFaceTokenizer, trainer: trainers.BpeTrainer, texts: Iterable[str], report: Report
) -> None:
    """Train in a thread, so that progress is shown and a signal is obeyed at once: the library reports nothing."""
    feed, failures = _Feed(texts, tokenizer.pre_tokenizer), []

    def work() -> None:
        try:
            tokenizer.train_from_iterator(iter(feed), trainer)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="tokenizer", daemon=True)
    thread.start()
    merging: float | None = None
    while thread.is_alive():
        if feed.is_done:
            merging = merging or time.monotonic()
            report(Progress("learning the tokenizer's merges", time.monotonic() - merging, None, SECONDS))
        else:
            report(Progress("training the tokenizer", feed.bytes, None, "bytes"))
        thread.join(SECONDS_BETWEEN_REPORTS)
    if failures:
        raise failures[0]


def _leave_out_what_is_not_trained(tokenizer: HuggingFaceTokenizer) -> tuple[str, ...]:
    """Make a given tokenizer do what training does with text, and nothing else; returns what was taken from it.

    Whoever loads an export would else put tokens before the text that the model has never seen there, or cut it.
    """
    left_out = []
    if tokenizer.num_special_tokens_to_add(False):
        added = tokenizer.encode("").tokens
        left_out.append(f"its post-processor, which adds {' and '.join(added)}")
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if tokenizer.truncation:
        left_out.append("its truncation")
        tokenizer.no_truncation()
    if tokenizer.padding:
        left_out.append("its padding")
        tokenizer.no_padding()
    if getattr(tokenizer.model, "dropout", None):
        left_out.append("the dropout of its merges")
        tokenizer.model.dropout = None
    if not isinstance(tokenizer.decoder, decoders.ByteLevel):
        tokenizer.decoder = decoders.ByteLevel()
    return tuple(left_out)


def _is_byte_level(description: dict[str, Any]) -> bool:
    return '"ByteLevel"' in json.dumps(description.get("pre_tokenizer")) and _keeps_nfc(description.get("normalizer"))


def _keeps_nfc(normalizer: dict[str, Any] | None) -> bool:
    """Whether a normaliser leaves text that is NFC already, as all of ours is, as it is."""
    if normalizer is None:
        return True
    if normalizer["type"] == "Sequence":
        return all(_keeps_nfc(inner) for inner in normalizer["normalizers"])
    return bool(normalizer["type"] == "NFC")


def _bytes_of_tokens(tokenizer: HuggingFaceTokenizer, vocab_size: int) -> list[bytes]:
    """Undo the printable alphabet that byte-level BPE writes its bytes in. Special tokens and gaps stand for none.

    Added tokens (runs of spaces, say) are written as they are. Raises KeyError for a character that is no byte's.
    """
    byte_of = _byte_of_character()
    found = [b""] * vocab_size
    added = tokenizer.get_added_tokens_decoder()
    for text, number in tokenizer.get_vocab(with_added_tokens=True).items():
        if number not in added:
            found[number] = bytes(byte_of[character] for character in text)
        elif not added[number].special:
            found[number] = added[number].content.encode()
    return found


def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
