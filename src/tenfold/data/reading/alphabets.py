"""How well a decoded text fits the alphabet of one language: what tells encodings of one byte a character apart.

Every byte is a letter in most of them, so all of them decode; but what is Portuguese in one is in another a mixture of
Romanian, Polish and Hungarian letters, which nobody writes. Alphabets as in the exemplar characters of Unicode CLDR.
"""

import re
import unicodedata
from collections import Counter

_LATIN = (
    *("àâæçéèêëîïôœùûü", "äöüßé", "áéíñóúüçï", "áâãàçéêíóôõúü", "àèéìíîòóùú", "àçèéíïòóúü", "áéíóúýðþæö"),
    *("áíóúýðæøå", "æøåéèêóòôâ", "åäöéàü", "äöåšžé", "áéíóúàèêëïöüô", "äöõüšž", "āčēģīķļņšūžŗō", "ąčęėįšųūž"),
    *("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîșțşţ", "çë", "çğıİöşüâîû"),
    "ăâđêôơưàáãèéìíòóõùúý\u0300\u0301\u0303\u0309\u0323",
)
_CYRILLIC = (
    *("абвгдежзийклмнопрстуфхцчшщъыьэюяё", "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя", "абвгдеёжзійклмнопрстуўфхцчшыьэюя"),
    *("абвгдђежзијклљмнњопрстћуфхцчџш", "абвгдѓежзѕијклљмнњопрстќуфхцчџш"),
)
_GREEK = ("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ",)
_CONSONANTAL = (
    "".join(map(chr, range(0x5B0, 0x5EB))),  # Hebrew
    "".join(map(chr, range(0x621, 0x653))) + "پچژگک",  # Arabic and Persian
    "".join(map(chr, range(0xE01, 0xE5C))),  # Thai
)
_WESTERN = frozenset("àáâãäåæçèéêëìíîïðñòóôõöøùúûüýþßœšž")
_VOWELLED = ((_CYRILLIC, frozenset("аеёиіоуыэюяїє"), 0.3), (_GREEK, frozenset("αεηιουωάέήίόύώϊϋΐΰ"), 0.42))
"""Alphabets, their vowels, the share of them that texts have at least: Hebrew read as Cyrillic or Greek has fewer."""
CAPITALS_FIT = 0.99
"""What text of capitals counts for: KOI8 and Windows Cyrillic have the letters of the other case in each other's place.
"""
_TOUCHING = re.compile("[A-Za-z][\u0370-\u1fff]|[\u0370-\u1fff](?=[A-Za-z])")
"""Other alphabets are not mixed with Latin in a word."""
_SIGNS_IN_WORDS = re.compile(r"[^\W\d_][¹²³¼½¾±¢£¤¥§¨¯´¸¬¦]|[¹²³¼½¾±¢£¤¥§¨¯´¸¬¦](?=[^\W\d_])")
WESTERN_FIT = 0.9
"""What letters of several western languages count for: names in an English text are of no one language."""


def alphabet_fit(text: str, ignored: frozenset[str]) -> tuple[float, bool]:
    """(share of the letters beyond ASCII that are of the language which has most of them, whether that is Latin).

    Control characters and signs that no text needs count as letters of no language; `ignored` and punctuation do not
    count.
    """
    judged = Counter[str]()
    for character, number in Counter(text).items():
        if character > "\x7f" and character not in ignored and _is_judged(character):
            judged[character if character == "İ" else character.lower()[0]] += number
    if not judged:
        return 1.0, True
    total = judged.total() + len(_SIGNS_IN_WORDS.findall(text))
    latin = max(_share(judged, alphabet, total) for alphabet in _LATIN)
    latin = max(latin, WESTERN_FIT * _share(judged, _WESTERN, total))
    other = _fit_beyond_latin(text, judged, total)
    return max(latin, other), latin >= other


def _fit_beyond_latin(text: str, judged: Counter[str], total: int) -> float:
    """Of letters of Cyrillic, Greek, Hebrew, Arabic or Thai."""
    fits = [_share(judged, alphabet, total) for alphabet in _CONSONANTAL]
    for alphabets, vowels, fewest in _VOWELLED:
        like_speech = min(1.0, _share(judged, vowels, total) / fewest)
        fits += [like_speech * _share(judged, alphabet, total) for alphabet in alphabets]
    capitals = sum(character > "\u036f" and character.isupper() for character in text)
    apart = 1 - len(_TOUCHING.findall(text)) / total
    return max(fits) * apart * (CAPITALS_FIT if 2 * capitals > total else 1.0)


def _is_judged(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind[0] in "LMS" or kind in ("Cc", "Cn", "Co") or character == "¶"


def _share(judged: Counter[str], alphabet: str | frozenset[str], total: int) -> float:
    return sum(judged[letter] for letter in alphabet) / total
