"""What general-purpose compressors make of the same text, each at its strongest setting."""

import gzip
import lzma

import zstandard

ZSTD_LEVEL = 22


def compressed_bits_per_byte(text: bytes) -> dict[str, float]:
    """Bits per byte of gzip, xz and zstd on `text` as one file."""
    sizes = {
        "gzip": len(gzip.compress(text, 9, mtime=0)),
        "xz": len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)),
        "zstd": len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(text)),
    }
    return {name: 8 * size / len(text) for name, size in sizes.items()}
