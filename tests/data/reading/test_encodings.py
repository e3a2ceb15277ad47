"""Encodings are recognised, damage is told from them, and nothing depends on how the bytes come."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.data.reading import encodings
from tenfold.data.reading.encodings import NotText, TextDecoder, encoding_of
from tests.data.texts import library_texts

SENTENCES = {
    "fr": "Le garçon a mangé une crêpe à côté de l'école où étaient les élèves. Ça lui a plu énormément.\n",
    "de": "Die Straße führt über die Brücke zum größten Häuschen. Möchten Sie Äpfel?\n",
    "en": "He said “hello” — it’s fine. And then the café closed for good.\n",
    "pl": "Litwo! Ojczyzno moja! ty jesteś jak zdrowie. Ile cię trzeba cenić, ten się dowie, kto cię stracił.\n",
    "ru": "Съешь ещё этих мягких французских булок, да выпей чаю. Москва - столица России.\n",
    "el": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Η Ελλάδα είναι χώρα της Ευρώπης.\n",
    "ja": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n",
    "zh": "人生天地之间，若白驹之过隙，忽然而已。注然勃然，莫不出焉；\n",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.\n",
}
IN_OTHERS = [
    *(("fr", "cp1252"), ("fr", "cp850"), ("de", "cp1252"), ("en", "cp1252"), ("pl", "cp1250")),
    *(("ru", "cp1251"), ("ru", "koi8_r"), ("ru", "cp866"), ("el", "cp1253"), ("ja", "cp932"), ("ja", "euc_jp")),
    *(("ja", "iso2022_jp"), ("zh", "gb18030"), ("ko", "cp949")),
]
OF_ONE_SCRIPT = {
    "pt": ("Não há razões para que as ações da organização não sejam úteis às populações.", "cp1252 cp850"),
    "it": ("Perché la città è così bella, non si può più dire di sì né di no: sarà l'età.", "cp1252 mac_roman"),
    "es": ("El niño comió una piña mañana; ¿quién diría que aquí había leña?", "cp1252 cp437"),
    "is": ("Það er gott að búa á Íslandi, þótt veðrið sé oft ekki sem best á veturna.", "cp1252"),
    "sl": ("Vsi ljudje so začeli živeti v širni državi, češ da je življenje boljše.", "iso8859_2 cp1250"),
    "cs": ("Příliš žluťoučký kůň úpěl ďábelské ódy, a těšil se na večeři.", "iso8859_2 cp1250"),
    "hu": ("Az őszi erdő gyönyörű, fűzfák és tölgyek őrzik az árnyékos utat.", "iso8859_2 cp1250"),
    "tr": ("Işığın hızı çok yüksektir, gökyüzü ağaçların arasından görünüyor, şaşırtıcı.", "cp1254"),
    "lv": ("Visi cilvēki piedzimst brīvi un vienlīdzīgi savā pašcieņā un tiesībās, šķiet.", "cp1257"),
    "el": ("Άλλη ημέρα: η Ελλάδα είναι χώρα της Ευρώπης. Άνθρωποι γεννιούνται ελεύθεροι.", "iso8859_7 cp1253"),
    "he": ("כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.", "cp1255"),
}
IN_ALL = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
PLAIN = "".join(library_texts(30)).encode("ascii", "ignore")


def decoded(content: bytes, decoder: TextDecoder, block: int = 1 << 20) -> str:
    return "".join(decoder.decode(content[start : start + block] for start in range(0, len(content), block)))


@pytest.mark.parametrize(("language", "encoding"), IN_OTHERS + [(name, each) for name in SENTENCES for each in IN_ALL])
def test_text_comes_out_as_it_was_written(language: str, encoding: str) -> None:
    text, decoder = SENTENCES[language] * 40, TextDecoder()
    assert decoded(text.encode(encoding), decoder) == text
    assert decoder.replaced == 0


@pytest.mark.parametrize(
    ("sentence", "encoding"), [(text, each) for text, names in OF_ONE_SCRIPT.values() for each in names.split()]
)
def test_the_alphabet_of_a_language_tells_encodings_of_one_script_apart(sentence: str, encoding: str) -> None:
    """Of Portuguese, Italian and Icelandic in Latin-1, most texts were taken for Latin-2 or Vietnamese."""
    text = f"{sentence} And then there is a line of English.\n" * 8
    assert decoded(text.encode(encoding), TextDecoder()) == text


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("number", [1, 9, 40, 200])
def test_bytes_damaged_at_random_are_replaced_and_counted(seed: int, number: int) -> None:
    draw, content = random.Random(seed), bytearray(PLAIN)
    places = draw.sample(range(1, len(content), 2), number)
    for place in places:
        content[place] = draw.randrange(128, 256)
    decoder = TextDecoder()
    text = decoded(bytes(content), decoder)
    assert decoder.encoding == "utf-8" and 0.9 * number <= decoder.replaced <= number
    assert text.replace("�", "") == bytes(byte for byte in content if byte < 128).decode()


def test_damage_in_utf_8_of_many_characters_is_no_other_encoding() -> None:
    content = bytearray((SENTENCES["ru"] * 500).encode())
    for place in range(100, len(content), 10_001):
        content[place] ^= 0xFF
    decoder = TextDecoder()
    assert "французских" in decoded(bytes(content), decoder) and decoder.encoding == "utf-8"


def test_too_much_damage_is_refused_with_its_place_and_its_share() -> None:
    content = bytearray((SENTENCES["ru"] * 500).encode())
    content[100::50] = b"\xff" * len(content[100::50])
    with pytest.raises(NotText, match=r"byte 99: invalid continuation byte; 2,[0-9]+ bad bytes in ") as refused:
        decoded(bytes(content), TextDecoder())
    assert refused.value.reason == "invalid-utf8"


def test_none_is_replaced_where_none_may_be() -> None:
    with pytest.raises(NotText):
        decoded(PLAIN + b"\xff", TextDecoder(max_replaced=0))


def test_an_encoding_may_show_itself_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "JUDGED", 1 << 12)
    text, decoder = PLAIN.decode() + SENTENCES["fr"] * 200, TextDecoder()
    assert decoded(text.encode("cp1252"), decoder, 1 << 12) == text


def test_a_named_encoding_is_taken_and_its_failure_said() -> None:
    assert decoded("é".encode("cp850") * 40, TextDecoder(wanted="cp850")) == "é" * 40
    with pytest.raises(NotText) as refused:
        decoded(SENTENCES["fr"].encode("cp1252") * 40, TextDecoder(wanted="ascii"))
    assert refused.value.reason == "wrong-encoding"


@pytest.mark.parametrize("content", [b"\xff" * 100, bytes(range(256)) * 20, random.Random(0).randbytes(9_000)])
def test_what_is_no_text_is_refused(content: bytes) -> None:
    with pytest.raises(NotText):
        encoding_of(content, 0.001)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=400), st.integers(1, 50))
def test_blocks_of_any_size_give_the_same_text(text: str, block: int) -> None:
    content = text.encode() + "—".encode() * 8
    try:
        whole = decoded(content, TextDecoder())
    except NotText:
        return
    assert decoded(content, TextDecoder(), block) == whole == (text + "—" * 8).removeprefix("﻿").replace("\0", "�")
