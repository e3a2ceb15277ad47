"""Tokenizers given and trained: added tokens, gaps, normalisers, long words; every byte is counted."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as HuggingFaceTokenizer

from tenfold.core.errors import InputError
from tenfold.data.tokenizer import LONGEST_WORD, Tokenizer, bounded_words
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


def test_what_training_never_shows_is_taken_from_a_given_tokenizer_and_named(tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer.from_file(str(saved(tmp_path / "t.json", AddedToken("<s>", special=True))))
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=40)
    tokenizer.model.dropout = 0.5
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(tmp_path / "t.json"))
    loaded = Tokenizer.load(tmp_path / "t.json")
    left_out = " ".join(loaded.left_out)
    assert all(what in left_out for what in ("adds <s>", "truncation", "padding", "dropout"))
    exported = HuggingFaceTokenizer.from_str(loaded.to_json())
    text = TEXT.replace("<|endoftext|>", "")
    assert exported.encode(text).ids == loaded.encode_batch([text])[0] == loaded.encode_batch([text])[0]
    assert exported.decode(exported.encode("x = é").ids) == "x = é"
    assert Tokenizer.load(saved(tmp_path / "plain.json")).left_out == ()


@given(st.text(max_size=600), st.sampled_from(["x", "汉", "🙂", " ", "\n", "é "]), st.integers(0, 900))
def test_no_word_is_longer_than_the_bound_and_no_text_is_lost(text: str, character: str, count: int) -> None:
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole = text + character * count + text
    parts = bounded_words(whole, words)
    assert "".join(parts) == whole
    for part in parts:
        assert all(end - start <= LONGEST_WORD for _, (start, end) in words.pre_tokenize_str(part))
    if all(end - start <= LONGEST_WORD for _, (start, end) in words.pre_tokenize_str(whole)):
        assert parts == [whole], "text of usual words is trained on as it was before there was a bound"


def test_training_says_how_far_it_is_and_raises_what_the_texts_raise() -> None:
    said: list[str] = []
    texts = library_texts(5)
    tokenizer = Tokenizer.train(texts, 400, lambda progress: said.append(progress.stage))
    assert said and tokenizer.to_json() == Tokenizer.train(texts, 400).to_json()

    def broken() -> Iterator[str]:
        yield "some text"
        raise InputError("source: gone")

    with pytest.raises(InputError, match="source: gone"):
        Tokenizer.train(broken(), 400)
