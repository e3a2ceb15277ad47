"""Real text for the tests: files of the running interpreter's library."""

import sysconfig
from pathlib import Path

from tenfold.config import Data

LIBRARY = Path(sysconfig.get_path("stdlib"))


def library_texts(count: int, min_bytes: int = 2_000, max_bytes: int = 40_000) -> list[str]:
    """The first `count` files of the standard library of about that size."""
    found: list[str] = []
    for path in sorted(LIBRARY.glob("*.py")):
        if min_bytes <= path.stat().st_size <= max_bytes:
            found.append(path.read_text(encoding="utf-8"))
        if len(found) == count:
            break
    return found


def write_texts(directory: Path, texts: list[str]) -> Path:
    """One file a text."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        (directory / f"{number:04d}.txt").write_text(text, encoding="utf-8")
    return directory


def small_data(folder: Path, **changes: object) -> Data:
    """A corpus of one folder with one split holdout."""
    values = {
        "sources": [{"kind": "files", "paths": [str(folder)]}],
        "holdouts": [{"name": "iid", "kind": "split", "fraction": 0.1, "max_bytes": 100_000}],
        "tokenizer": {"vocab_size": 512},
    }
    return Data.model_validate(values | changes)
