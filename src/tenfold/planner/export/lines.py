"""Writing the little TOML that exports need."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

WRAP_AT = 108


def comment(text: str) -> list[str]:
    """`text` as commented lines."""
    return textwrap.wrap(" ".join(text.split()), WRAP_AT, initial_indent="# ", subsequent_indent="# ")


def table(name: str, values: Mapping[str, Any], remarks: Mapping[str, str] | None = None) -> Iterator[str]:
    """[name] with its keys. A key whose value is None is left out; `remarks` are put above their keys."""
    yield from ["", f"[{name}]"]
    for key, value in values.items():
        if value is not None:
            yield from comment((remarks or {}).get(key, ""))
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"  # TOML and JSON agree on text, numbers, lists
