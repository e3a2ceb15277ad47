"""Judging a model: exact bits per byte, beside general-purpose compressors. Front door of the room."""

from tenfold.evaluate.compressors import compressed_bits_per_byte
from tenfold.evaluate.score import Score, limit_documents, score_documents, scoring_code_version

__all__ = ["Score", "compressed_bits_per_byte", "limit_documents", "score_documents", "scoring_code_version"]
