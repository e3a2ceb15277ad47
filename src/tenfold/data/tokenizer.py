"""Byte-level BPE: trained on the training text, or given. Every token stands for known bytes, so nothing is lost."""

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from tenfold.core import InputError

END_OF_DOCUMENT = "<|endoftext|>"


class Tokenizer:
    """Text ↔ tokens. The end-of-document token is never made from text, whatever the text says."""

    def __init__(self, tokenizer: HuggingFaceTokenizer) -> None:
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.vocab_size: int = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1  # numbers may have gaps
        end_of_document = tokenizer.token_to_id(END_OF_DOCUMENT)
        assert end_of_document is not None  # train and load both see to it
        self.end_of_document: int = end_of_document

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn merges from `texts` (Sennrich et al., arXiv 1508.07909, on bytes)."""
        tokenizer = HuggingFaceTokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_DOCUMENT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
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
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if not _is_byte_level(json.loads(text)):
            raise InputError(f"{path}: not a byte-level tokenizer, so bytes could not be counted exactly; use another")
        tokenizer.add_special_tokens([END_OF_DOCUMENT])  # keeps its number where it has one
        loaded = cls(tokenizer)
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
