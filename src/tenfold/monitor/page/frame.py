"""Curves as bytes: a JSON head and then numbers by byte planes, which compress to about three bytes a point.

    uint32 length of the head, little-endian · head (JSON, UTF-8) · body

The body is four planes of the steps' differences (uint32) and four planes of the values (float32) of all curves one
after another: first the lowest byte of every number, then the second of every number, …. A float32 has 7 digits, more
than a screen has pixels. `static/frame.js` reads it.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenfold.monitor.page.decimate import Steps, Values

LARGEST = np.finfo(np.float32).max


@dataclass(frozen=True)
class FrameCurve:
    """One curve of a frame and what its entry in the head says besides its number of points."""

    about: dict[str, Any]
    steps: Steps
    values: Values


def encode(head: dict[str, Any], curves: Sequence[FrameCurve]) -> bytes:
    """A frame of these curves. Values must be finite; those beyond float32 become its largest."""
    entries = [sent.about | {"points": len(sent.steps)} for sent in curves]
    text = json.dumps(head | {"curves": entries}, separators=(",", ":")).encode()
    differences = [np.diff(sent.steps, prepend=0) for sent in curves]
    values = [np.clip(sent.values, -LARGEST, LARGEST) for sent in curves]
    planes = [_planes(differences, "<u4"), _planes(values, "<f4")]
    return b"".join([struct.pack("<I", len(text)), text, *planes])


def _planes(parts: Sequence[np.ndarray[Any, Any]], dtype: str) -> bytes:
    numbers = np.concatenate([*parts, np.empty(0)]).astype(dtype)
    return numbers.view(np.uint8).reshape(-1, 4).T.tobytes()
