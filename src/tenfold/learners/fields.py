"""Types of what messages hold: numbers, texts and names within their bounds."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

LARGEST = 2**62  # a number beyond this is no count of anything


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("not a printable text")
    return text


LEARNER_NAME = re.compile(r"\w[\w.-]{0,99}")


def _a_name(text: str) -> str:
    if not LEARNER_NAME.fullmatch(text):
        raise ValueError("a learner's name has letters, digits, '-', '_' and '.', at most 100, and no '.' or '-' first")
    return text


Whole = Annotated[int, Field(strict=True, ge=0, lt=LARGEST)]
Count = Annotated[int, Field(strict=True, ge=1, lt=LARGEST)]
Index = Annotated[int, Field(ge=0, lt=LARGEST)]
"""A number as the key of a JSON object, where it is a string."""
Figure = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
LearnerName = Annotated[str, AfterValidator(_a_name)]
"""It becomes a folder's name, part of a metric's name and part of a line for people."""
Address = Annotated[str, Field(max_length=300, pattern=r"^(\[[0-9A-Za-z:.%_-]+\]|[0-9A-Za-z._-]+)(:[0-9]{1,5}){1,2}$")]
"""HOST:PORT, or HOST:PORT:PORT."""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
