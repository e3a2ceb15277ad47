"""How often the encoding of a text is recognised right: real texts of this machine, written in what their language had.

    python benchmarks/text_encodings.py [--bytes 600 4000] [--texts 12]

Texts are the translated manual pages below /usr/share/man, or, of languages with fewer than ten, messages of the
translated programs below /usr/share/locale. Of each language so many texts are cut to each size, written in each of its
encodings and read back; those that come back letter for letter count as right. Texts with fewer than ten characters
beyond ASCII are left out.
"""

import argparse
import gzip
import random
from collections import Counter
from contextlib import suppress
from gettext import GNUTranslations
from pathlib import Path

from tenfold.data.reading.encodings import NotText, TextDecoder

FEWEST_STRANGE = 10
ENCODINGS = {
    **dict.fromkeys(["cs", "hr", "hu", "pl", "sl", "sk", "ro"], "cp1250 iso8859_2"),
    **dict.fromkeys(
        ["da", "es", "fi", "it", "nl", "pt", "pt_BR", "sv", "nb", "ca", "gl", "eu", "is"], "cp1252 iso8859_1"
    ),
    **dict.fromkeys(["fr", "de"], "cp1252 iso8859_1 cp437 cp850 mac_roman"),
    **{"ru": "koi8_r cp1251 iso8859_5 cp866", "uk": "koi8_u cp1251", "bg": "cp1251", "sr": "cp1251 iso8859_5"},
    **{"ja": "cp932 euc_jp iso2022_jp", "ko": "cp949", "zh_CN": "gb18030", "zh_TW": "big5"},
    **{"el": "cp1253 iso8859_7", "tr": "cp1254", "he": "cp1255", "ar": "cp1256", "th": "tis_620", "vi": "cp1258"},
    **dict.fromkeys(["lt", "lv", "et"], "cp1257"),
}


def texts_of(language: str) -> list[str]:
    """Shuffled texts of one language; none where this machine has none."""
    pages = sorted(Path("/usr/share/man").glob(f"{language}/man*/*.gz"))[:200]
    texts = [gzip.decompress(page.read_bytes()).decode("utf-8", errors="ignore") for page in pages]
    if len(texts) < 10:
        messages: list[str] = []
        for path in sorted(Path("/usr/share/locale").glob(f"{language}/LC_MESSAGES/*.mo"))[:60]:
            with path.open("rb") as file, suppress(UnicodeDecodeError):
                messages += [text for text in vars(GNUTranslations(file))["_catalog"].values() if len(text) > 20]
        random.Random(0).shuffle(messages)
        joined = "\n".join(messages)
        texts += [joined[place : place + 6_000] for place in range(0, min(len(joined), 240_000), 6_000)]
    random.Random(1).shuffle(texts)
    return texts


def verdicts(texts: list[str], encoding: str, size: int, count: int) -> Counter[str]:
    """`right`, or what each of `count` texts was taken for."""
    found: Counter[str] = Counter()
    for text in texts:
        content = text[:size].rsplit("\n", 1)[0].encode(encoding, errors="ignore")
        wanted = content.decode(encoding)
        if found.total() < count and sum(character > "\x7f" for character in wanted) >= FEWEST_STRANGE:
            decoder = TextDecoder()
            try:
                found["right" if "".join(decoder.decode(iter([content]))) == wanted else decoder.encoding] += 1
            except NotText as error:
                found[error.reason] += 1
    return found


def main() -> None:
    """Print what was taken for something else, and the share of what was right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, nargs="+", default=[600, 4_000])
    parser.add_argument("--texts", type=int, default=12)
    options = parser.parse_args()
    all_texts = {language: texts_of(language) for language in ENCODINGS}
    for size in options.bytes:
        total: Counter[str] = Counter()
        for language, names in ENCODINGS.items():
            for encoding in names.split():
                found = verdicts(all_texts[language], encoding, size, options.texts)
                total += found
                if found.total() > found["right"]:
                    print(f"{size:>6} bytes  {language:<6} {encoding:<10}", dict(found), flush=True)
        print(f"{size:>6} bytes: {total['right']} of {total.total()} right", flush=True)


if __name__ == "__main__":
    main()
