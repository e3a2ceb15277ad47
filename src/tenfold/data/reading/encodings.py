"""Text out of bytes, block by block: which encoding they are in, and how many of them had to be replaced.

UTF-8 comes first. Bytes that are not quite UTF-8 are judged by their kind: a text of many well-formed characters and
few bad bytes is damaged UTF-8 and is rescued, with U+FFFD for what is bad; bytes that never make up a character of
UTF-8 are in another encoding, which a detector names.
"""

import codecs
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from charset_normalizer import from_bytes

from tenfold.core import byte_size, count, percent
from tenfold.data.reading.alphabets import alphabet_fit

JUDGED = 4 << 20
"""Bytes looked at before anything is yielded; shorter texts are judged as a whole."""
EVIDENCE = 64 << 10
"""Bytes shown to the detector: lines that have something else than ASCII."""
DAMAGE = 0.5
"""Bad characters among all that are not ASCII, up to which a text is damaged UTF-8 and not in another encoding. Text in
GB 18030, Shift JIS, EUC or Big5 read as UTF-8 has 0.7 to 0.9, in an encoding of one byte a character nearly 1."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SINGLE_BYTE = [
    *("cp1252", "cp1250", "iso8859_2", "cp1254", "cp1257", "cp1251", "cp1253", "cp1255", "cp1256", "cp1258"),
    *("iso8859_5", "iso8859_7", "koi8_r", "koi8_u", "cp866", "cp437", "cp850", "mac_roman", "tis_620"),
]
"""Encodings of one byte a character that text is really found in; of those that fit alike the first one is taken."""
AS_ANOTHER = {"iso8859_7": "cp1253", "koi8_u": "koi8_r"}
"""Encodings that differ from another one in few letters: the detector's order between these says nothing."""
MULTIBYTE = ["gb18030", "cp932", "euc_jp", "big5", "cp949"]
SINGLE_AND_MULTIBYTE = SINGLE_BYTE + MULTIBYTE
"""The detector knows more; each more is one more to be wrong with."""
SURE = 0.95
"""Fit to an alphabet that is enough where the detector knows of nothing."""
KANA = re.compile("[\u3041-\u30fa]")
WIDE = ["utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be"]
WITHOUT_MARK = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}
ISO_2022_JP = re.compile(rb"\x1b\$[@B][!-~]+\x1b\([BJ]")
CONTROLS = bytes(code for code in range(32) if code not in b"\a\b\t\n\v\f\r\x1a\x1b")
FEW = 1e-4
"""Share of bytes below which control characters are damage, and a handful of bad bytes no sign of an encoding."""
HANDFUL = 16
NOT_ASCII = re.compile(r"[^\x00-\x7f]")
JOINING = frozenset("’‘–—·‐‑")
SYMBOLS = frozenset("©®°£€¥™ªº±×÷│─┌┐└┘├┤┬┴┼═║░▒▓█■")
END_OF_LATIN, END_OF_ALPHABETS = "\u0250", "\u2000"
"""Letters between them are of alphabets (Greek, Cyrillic, Arabic, Thai …) that are not mixed with Latin in a word."""
LINES, END_OF_LINES = "\u2500", "\u2600"
"""Frames and blocks."""
PLAUSIBLE = 0.8
"""Share of the characters that are not ASCII which must look written; of random bytes in Latin-1 half do."""
REPEATED = re.compile(r"([^\x00-\x7f\u00b7\u2010-\u2027\u2500-\u259f])\1{7}")
"""Dots, dashes and frames are repeated in texts; anything else eight times in a row is a sign of bytes, not of text."""
INVALID_UTF8 = "invalid-utf8"
BAD = "\ufffd"


class NotText(Exception):
    """Bytes that are no text in any encoding known here, or too damaged. `reason` as in rejects.jsonl."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass
class TextDecoder:
    """Decodes one stream of bytes. What it found stands in its fields, for whoever reads to the end."""

    wanted: str | None = None
    """The encoding, if the user named one."""
    max_replaced: float = 0.001
    """Share of the bytes that may be replaced."""
    encoding: str = ""
    """The encoding found, as Python names it."""
    replaced: int = 0
    """Bad bytes replaced, and NULs."""
    size: int = 0
    """Bytes decoded so far."""

    @property
    def is_guess(self) -> bool:
        """Whether a detector named the encoding."""
        return not self.wanted and self.encoding not in ("", "utf-8", "utf-16", "utf-32")

    def decode(self, blocks: Iterator[bytes]) -> Iterator[str]:
        """The text, block by block, without a byte order mark. Raises NotText, perhaps in the middle."""
        head, broken = _up_to(blocks, JUDGED)
        decoder = self._judge(head)
        is_ascii = True
        for block in chain((head,), () if broken else blocks):
            if is_ascii and block is not head and not self.wanted and self.encoding == "utf-8" and not block.isascii():
                decoder = self._judge(block)  # all was ASCII up to here, so any encoding can still be it
            is_ascii = is_ascii and block.isascii()
            text = decoder.decode(block)
            yield self._counted(text if self.size else text.removeprefix("\ufeff"), block)
        yield self._counted(decoder.decode(b"", True), b"")
        if broken:
            raise broken

    def _judge(self, head: bytes) -> codecs.IncrementalDecoder:
        self.encoding = self.wanted or encoding_of(head, self.max_replaced)
        return codecs.getincrementaldecoder(self.encoding)(errors="replace")

    def _counted(self, text: str, block: bytes) -> str:
        """The text with what is bad counted, and NULs replaced."""
        self.size += len(block)
        nulls = text.count("\0")
        if BAD in text or nulls:
            self.replaced += max(0, text.count(BAD) - _meant(block, self.encoding)) + nulls
            text = text.replace("\0", BAD)
            if self.replaced > allowed(self.size, self.max_replaced):
                raise NotText(
                    INVALID_UTF8 if self.encoding == "utf-8" else "wrong-encoding",
                    f"{count(self.replaced, 'bad byte')} in {byte_size(self.size)} read as {self.encoding}",
                )
        return text


def allowed(size: int, share: float) -> float:
    """How many bytes of a text may be replaced: one always, unless none may."""
    return max(1.0, share * size) if share else 0.0


def _meant(block: bytes, encoding: str) -> int:
    """Replacement characters that stood in the bytes already."""
    try:
        return block.count(BAD.encode(WITHOUT_MARK.get(encoding, encoding)))
    except UnicodeEncodeError:
        return 0


def encoding_of(head: bytes, max_replaced: float) -> str:
    """The encoding of a text by its beginning. Raises NotText where it is none, or none that can be told."""
    if (marked := next((encoding for mark, encoding in MARKS if head.startswith(mark)), None)) is not None:
        return marked
    controls = len(head) - len(head.translate(None, CONTROLS))
    if controls > allowed(len(head), max(max_replaced, FEW)):
        return _wide_encoding(head, controls)
    text = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(head)
    bad = text.count(BAD) - _meant(head, "utf-8")
    if not bad:
        return "iso2022_jp" if _is_iso_2022_jp(head) else "utf-8"
    good = len(text) - len(text.encode("ascii", errors="ignore")) - bad
    damaged = bad <= DAMAGE * (bad + good) or (bad <= HANDFUL and bad < FEW * len(head))
    if not damaged and (found := _narrow_encoding(_evidence(head))) is not None:
        return found
    if bad <= allowed(len(head), max_replaced):
        return "utf-8"
    raise NotText(INVALID_UTF8, f"{_first_bad(head)}; {bad:,} bad bytes in {byte_size(len(head))}")


def _wide_encoding(head: bytes, controls: int) -> str:
    """UTF-16 or UTF-32 without a mark, or no text: bytes in which control characters are common."""
    found = _detected(head[: EVIDENCE - EVIDENCE % 4], WIDE) if b"\0" in head else None
    if found is not None:
        return found
    raise NotText("binary", f"{percent(controls / len(head))} of its bytes are control characters")


def _is_iso_2022_jp(head: bytes) -> bool:
    if ISO_2022_JP.search(head) is None:
        return False
    try:
        codecs.getincrementaldecoder("iso2022_jp")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _evidence(head: bytes) -> bytes:
    """Lines that have other characters than ASCII, first those of the beginning."""
    parts, size = [], 0
    for line in head.split(b"\n"):
        if not line.isascii():
            parts.append(line[:EVIDENCE])
            size += len(parts[-1])
        if size >= EVIDENCE:
            break
    return b"\n".join(parts)


def _detected(sample: bytes, encodings: list[str]) -> str | None:
    """What the detector makes of a sample; None where nothing fits."""
    matches = from_bytes(sample, cp_isolation=encodings)  # the best one first
    return next((str(match.encoding) for match in matches if _is_plausible(str(match))), None)


def _narrow_encoding(sample: bytes) -> str | None:
    """The encoding of a sample of ASCII and something else, which is no UTF-8; None where nothing fits.

    The detector tells scripts apart, and one byte a character from two. Which letters the bytes stand for it often
    gets wrong between languages of one script, so that is judged by their alphabets.
    """
    matches = [match for match in from_bytes(sample, cp_isolation=SINGLE_AND_MULTIBYTE) if _is_plausible(str(match))]
    order = [name for match in matches for name in (match.encoding, *match.could_be_from_charset)]
    if order and not set(SINGLE_BYTE) & set(order[:1]):
        return _with_kana(sample, next(name for name in MULTIBYTE if name in matches[0].could_be_from_charset))
    return _best_fit(sample, order)


def _with_kana(sample: bytes, found: str) -> str:
    """EUC-JP for what was found to be Chinese with kana: they have the same bytes in both, ideographs have not."""
    if found != "gb18030" or not KANA.search(sample.decode("gb18030", errors="replace")):
        return found
    try:
        sample.decode("euc_jp")
    except UnicodeDecodeError:
        return found
    return "euc_jp"


def _best_fit(sample: bytes, order: list[str]) -> str | None:
    """The encoding of one byte a character in which the letters are of one language; `order` is the detector's.

    Between alphabets that are not Latin the detector's order decides where the fit is the same.
    """
    texts: dict[str, str] = {}
    for encoding in SINGLE_BYTE:
        try:
            texts.setdefault(sample.decode(encoding), encoding)
        except UnicodeDecodeError:
            continue
    ranked = []
    for place, (text, encoding) in enumerate(texts.items()):
        fit, is_latin = alphabet_fit(text, SYMBOLS)
        alike = AS_ANOTHER.get(encoding, encoding)
        known = order.index(alike) if alike in order else len(order)
        if order or fit >= SURE:
            ranked.append((-round(fit, 3), place if is_latin else known, place, text, encoding))
    return next((encoding for *_, text, encoding in sorted(ranked) if _is_plausible(text)), None)


def _is_plausible(text: str) -> bool:
    """Whether what is not ASCII looks written: the detector judges by the share of it, and bad bytes can be few."""
    strange = list(NOT_ASCII.finditer(text))
    padded = f" {text} "
    written = sum(_is_written(each[0], padded[each.start()], padded[each.end() + 1]) for each in strange)
    return written >= PLAUSIBLE * len(strange) and REPEATED.search(text) is None


def _is_written(character: str, before: str, after: str) -> bool:
    """Letters, but no capital inside of a word and no alphabets mixed; marks, digits, punctuation, a few symbols."""
    kind, among_latin = unicodedata.category(character), (before + after).isascii() and (before + after).isalpha()
    if kind in ("Lu", "Ll", "Lo"):
        own_alphabet = character < END_OF_LATIN or character > END_OF_ALPHABETS
        return character != "ÿ" and not (kind == "Lu" and before.islower()) and (own_alphabet or not among_latin)
    if (kind[0] in "PZ" and character not in JOINING) or END_OF_LINES > character >= LINES:
        return not among_latin
    if kind == "No":
        return not after.isalpha()
    return kind[0] in "MNPZ" or character in SYMBOLS


def _first_bad(head: bytes) -> str:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte {error.start:,}: {error.reason}"
    return "bad bytes"


def _up_to(blocks: Iterator[bytes], size: int) -> tuple[bytes, Exception | None]:
    """The first blocks, until there is that much; and what ended them early, so that they are not lost with it."""
    parts, total = [], 0
    try:
        for block in blocks:
            parts.append(block)
            total += len(block)
            if total >= size:
                break
    except Exception as error:
        return b"".join(parts), error
    return b"".join(parts), None
