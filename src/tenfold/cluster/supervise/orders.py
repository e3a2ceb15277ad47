"""Orders to a running supervisor: JSON files dropped in a directory, which it polls."""

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenfold.errors import TenfoldError

REFUSED_SUFFIX = ".refused"


def drop_order(directory: Path, order: dict[str, Any]) -> Path:
    """Put one order where the supervisor looks, whole or not at all. Raises TenfoldError when the disk refuses."""
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"  # names sort by age
    temporary = directory / f".{name}.tmp"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(order), encoding="utf-8")
        temporary.replace(directory / name)
    except OSError as error:
        raise TenfoldError(f"{directory}: an order cannot be written ({error.strerror})") from error
    return directory / name


def take_orders(directory: Path, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Take every order out of the directory, oldest first. Never raises for what others put there.

    What is no JSON object is set aside as `*.refused`, and `report` gets one line on it.
    """
    orders = []
    for path in _waiting(directory):
        try:
            order = _read(path)
            path.unlink()  # before it is obeyed: an order that cannot be deleted would be obeyed again and again
        except (OSError, ValueError, RecursionError) as error:
            report(f"{path}: not an order ({error}); {_set_aside(path)}")
        else:
            orders.append(order)
    return orders


def _waiting(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    except OSError:  # not made yet
        return []


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():  # a pipe would be waited for
        raise ValueError("it is not a file")
    order = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(order, dict):
        raise ValueError("it is not a JSON object")
    return order


def _set_aside(path: Path) -> str:
    target = path.with_name(path.name + REFUSED_SUFFIX)
    try:
        path.replace(target)
    except OSError as error:
        return f"it cannot be set aside either ({error.strerror})"
    return f"set aside as {target.name}"
