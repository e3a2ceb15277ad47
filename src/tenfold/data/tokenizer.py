"""Byte-level BPE: trained on the training text, or given. Every token stands for known bytes, so nothing is lost."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from tenfold.errors import InputError

END_OF_DOCUMENT = "<|endoftext|>"


class Tokenizer:
    """Text ↔ tokens. The end-of-document token is never made from text, whatever the text says."""

    def __init__(self, tokenizer: HuggingFaceTokenizer) -> None:
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.vocab_size: int = tokenizer.get_vocab_size()
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
        if not _is_byte_level(json.loads(text)):
            raise InputError(f"{path}: not a byte-level tokenizer, so bytes could not be counted exactly; use another")
        if tokenizer.token_to_id(END_OF_DOCUMENT) is None:
            tokenizer.add_special_tokens([END_OF_DOCUMENT])
        return cls(tokenizer)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Tokens of each text."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode_bytes(self, tokens: NDArray[np.integer]) -> bytes:
        """The bytes the tokens stand for; the end-of-document token stands for none."""
        return b"".join(self.token_bytes[token] for token in tokens.tolist())

    @property
    def token_bytes(self) -> list[bytes]:
        """The bytes each token stands for, by token."""
        if not hasattr(self, "_token_bytes"):
            self._token_bytes = _bytes_of_tokens(self._tokenizer)
        return self._token_bytes

    @property
    def byte_lengths(self) -> NDArray[np.int64]:
        """Bytes each token stands for, [vocabulary]."""
        if not hasattr(self, "_byte_lengths"):
            self._byte_lengths = np.asarray([len(content) for content in self.token_bytes], dtype=np.int64)
        return self._byte_lengths

    def to_json(self) -> str:
        """As the text of a tokenizer.json."""
        return str(self._tokenizer.to_str())


def _is_byte_level(description: dict[str, object]) -> bool:
    return '"ByteLevel"' in json.dumps(description.get("pre_tokenizer")) and not description.get("normalizer")


def _bytes_of_tokens(tokenizer: HuggingFaceTokenizer) -> list[bytes]:
    """Undo the printable alphabet that byte-level BPE writes its bytes in."""
    byte_of = _byte_of_character()
    special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    vocabulary = {number: text for text, number in tokenizer.get_vocab(with_added_tokens=True).items()}
    return [
        b"" if number in special else bytes(byte_of[character] for character in vocabulary[number])
        for number in range(len(vocabulary))
    ]


def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
