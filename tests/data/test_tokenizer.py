"""Tokenizers that are given: added tokens, gaps, normalisers; every byte is counted."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, normalizers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from tenfold.core.errors import InputError
from tenfold.data.tokenizer import Tokenizer
from tests.data.texts import library_texts

TEXT = "def f(x):\n        return  <|user|> x  # é 漢 <|endoftext|>\n"


def saved(path: Path, *added: AddedToken, normalizer: normalizers.Normalizer | None = None) -> Path:
    tokenizer = HuggingFaceTokenizer.from_str(Tokenizer.train(library_texts(5), 400).to_json())
    tokenizer.add_tokens(list(added))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.save(str(path))
    return path


def round_trip(tokenizer: Tokenizer, text: str) -> bytes:
    return tokenizer.decode_bytes(np.asarray(tokenizer.encode_batch([text])[0]))


def test_plain_added_tokens_stand_for_what_they_are_written_as(tmp_path: Path) -> None:
    spaces = [AddedToken(" " * n, normalized=False) for n in (8, 4, 2)]
    tokenizer = Tokenizer.load(saved(tmp_path / "t.json", *spaces, AddedToken("漢", normalized=False)))
    assert " " * 8 in [token.decode("utf-8", errors="replace") for token in tokenizer.token_bytes]
    assert round_trip(tokenizer, TEXT) == TEXT.encode()
    assert tokenizer.byte_lengths[tokenizer.end_of_document] == 0


def test_nfc_is_accepted_and_other_normalisers_are_not(tmp_path: Path) -> None:
    nfc = normalizers.Sequence([normalizers.NFC()])
    assert round_trip(Tokenizer.load(saved(tmp_path / "a.json", normalizer=nfc)), TEXT) == TEXT.encode()
    with pytest.raises(InputError, match="not a byte-level tokenizer"):
        Tokenizer.load(saved(tmp_path / "b.json", normalizer=normalizers.Lowercase()))


def test_gaps_between_numbers_stand_for_no_bytes(tmp_path: Path) -> None:
    value = json.loads(saved(tmp_path / "t.json").read_text())
    value["model"]["vocab"] = {
        token: number + 7 if number > 300 else number for token, number in value["model"]["vocab"].items()
    }
    (tmp_path / "t.json").write_text(json.dumps(value))
    tokenizer = Tokenizer.load(tmp_path / "t.json")
    assert tokenizer.vocab_size == 407 == tokenizer.byte_lengths.size
    assert tokenizer.byte_lengths[301:308].sum() == 0
    assert round_trip(tokenizer, TEXT) == TEXT.encode()
