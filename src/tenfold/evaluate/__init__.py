"""Judging a model: exact bits per byte, beside general-purpose compressors. Front door of the room."""

from tenfold.evaluate.score import (
    Score,
    compressed_bits_per_byte,
    limit_documents,
    score_documents,
    scoring_code_version,
)

__all__ = ["Score", "compressed_bits_per_byte", "limit_documents", "score_documents", "scoring_code_version"]
