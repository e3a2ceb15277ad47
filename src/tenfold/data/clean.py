"""From a raw record to a document, or to the reason it is none."""

import unicodedata

from tenfold.config import Clean
from tenfold.data.records import Document, RawRecord, Reject


def clean(record: RawRecord, limits: Clean) -> Document | Reject:
    """Strict UTF-8, no NUL, NFC, within the length limits (bytes of UTF-8)."""
    try:
        text = record.content.decode("utf-8")
    except UnicodeDecodeError as error:
        return Reject(record.source, record.where, "invalid-utf8", f"byte {error.start}: {error.reason}")
    if "\0" in text:
        return Reject(record.source, record.where, "binary", f"NUL at character {text.index(chr(0))}")
    text = unicodedata.normalize("NFC", text.removeprefix("\ufeff"))
    size = len(text.encode())
    if size < limits.min_bytes:
        return Reject(record.source, record.where, "too-short", f"{size} bytes, at least {limits.min_bytes}")
    if size > limits.max_bytes:
        return Reject(record.source, record.where, "too-long", f"{size} bytes, at most {limits.max_bytes}")
    return Document(record.source, record.where, text)
