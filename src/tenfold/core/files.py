"""Files written whole or not at all, and read back."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenfold.core.errors import TenfoldError


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write atomically: whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write atomically: whole or not at all. Raises TenfoldError when the disk refuses."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise TenfoldError(f"{path}: cannot be written ({error.strerror}); make room, then run again") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None when it is missing or not whole, so that its stage is run again."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None
