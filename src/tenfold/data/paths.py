"""Which files a path, folder or glob names; what is tenfold's own output or no text of its kind is left out."""

import glob
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tenfold.core import OWN_FILES, OWN_FOLDERS, InputError

SKIPPED_FOLDERS = {"__pycache__", "site-packages", "dist-packages", "node_modules"}
SUFFIXES = {"jsonl": (".jsonl", ".jsonl.gz", ".jsonl.zst"), "parquet": (".parquet",)}
CAMPAIGN = "campaign.toml"
EXPORTED = ("config.json", "model.safetensors", "tokenizer.json")
LEDGER = "ledger.sqlite"
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
REJECTS = "rejects.jsonl"
CORPUS_ENTRIES = {MANIFEST, TOKENIZER, REJECTS, "audit.json", ".audit.json.tmp", "shards", "holdouts"}


def is_corpus(directory: Path) -> bool:
    """Whether a folder is a corpus built by tenfold, its manifest perhaps broken or deleted."""
    try:
        if isinstance(value := json.loads((directory / MANIFEST).read_bytes()), dict) and "made_from" in value:
            return True
    except (OSError, ValueError):
        pass
    return (directory / TOKENIZER).is_file() and (directory / REJECTS).is_file() and (directory / "shards").is_dir()


def is_saved_model(directory: Path) -> bool:
    """Whether a folder is a checkpoint or an export, wherever `checkpoint.url` or `export --to` put it."""
    checkpoint = re.fullmatch(r"step-\d{8}", directory.name) is not None and (directory / MANIFEST).is_file()
    return checkpoint or all((directory / name).is_file() for name in EXPORTED)


def foreign_entry(directory: Path) -> str | None:
    """Something in a folder that no corpus build wrote; None where there is nothing of that kind."""
    if not directory.is_dir():
        return directory.name if directory.exists() else None
    names = {path.name for path in directory.iterdir()}
    if names and not is_corpus(directory):
        return min(names)
    inner = (path for folder in ("shards", "holdouts") for path in (directory / folder).glob("*"))
    strange = names - CORPUS_ENTRIES | {path.name for path in inner if path.suffix != ".bin"}
    return min(strange, default=None)


def kind_of_file(name: str) -> str:
    """The kind of source a file is, by its name."""
    lower = name.lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if lower.endswith(suffixes)), "files")


def sources_of(data: str) -> list[dict[str, Any]]:
    """The sources that one path or glob stands for, one for each kind of file there. Raises InputError for nothing."""
    path = Path(data)
    if path.is_dir():
        names = [file.name for file in walk(path)]
        if not names:
            raise InputError(f"--data {data}: no file to read in this folder")
    elif path.exists():
        names = [path.name]
    elif glob.has_magic(data):
        names = [file.name for file in _glob(path.absolute())]
        if not names:
            raise InputError(f"--data {data}: no file matches")
    else:
        raise InputError(f"--data {data}: no such file or folder")
    return [{"kind": kind, "paths": [str(path.absolute())]} for kind in sorted({kind_of_file(name) for name in names})]


def expand_paths(patterns: Sequence[str], base: Path, kind: str, key: str) -> list[Path]:
    """Files named by paths, folders and globs, sorted. Raises InputError, naming `key`, for one that names nothing."""
    found: set[Path] = set()
    for pattern in patterns:
        path = base / pattern
        if path.is_dir():
            matches = [file for file in walk(path) if kind_of_file(file.name) == kind]
        elif path.exists():
            matches = [path]
        else:
            matches = [file for file in _glob(path) if path.suffix or kind_of_file(file.name) == kind]
        if not matches:
            hint = f' (of a folder, kind "{kind}" takes {", ".join(SUFFIXES[kind])})' if kind in SUFFIXES else ""
            raise InputError(
                f"{path}: no such file, or nothing to read in this folder; {key} takes files, folders, globs{hint}"
            )
        found.update(matches)
    return sorted(found)


def walk(root: Path, *, follow_links: bool = True) -> list[Path]:
    """Files below `root`, sorted: without hidden ones, caches, installed packages and what tenfold wrote.

    Linked folders are followed, each real folder once, so that a loop of links ends.
    """
    visited: set[str] = set()
    found: list[Path] = []
    for folder, folders, names in os.walk(root, onerror=_refuse(root), followlinks=follow_links):
        here = Path(folder)
        real = os.path.realpath(folder)
        if real in visited or is_corpus(here) or is_saved_model(here):
            folders.clear()
            continue
        visited.add(real)
        is_campaign = CAMPAIGN in names
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED_FOLDERS and not name.startswith(".") and not (is_campaign and name in OWN_FOLDERS)
        )
        found += (here / name for name in names if not name.startswith(".") and not (is_campaign and _generated(name)))
    return sorted(path for path in found if path.is_file())


def _generated(name: str) -> bool:
    """Whether a file beside a campaign.toml is one that tenfold writes there."""
    return name in OWN_FILES or name.startswith(LEDGER)


def _refuse(root: Path) -> Callable[[OSError], None]:
    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename or root}: cannot be read ({error.strerror})") from error

    return refuse


def _glob(pattern: Path) -> list[Path]:
    """Files that match an absolute or relative glob, `**` included; none that tenfold wrote."""
    first = next((number for number, part in enumerate(pattern.parts) if glob.has_magic(part)), len(pattern.parts))
    root, rest = Path(*pattern.parts[:first]), pattern.parts[first:]
    matches = root.glob(str(Path(*rest))) if rest else iter(())
    return list(_own_text(path for path in matches if path.is_file()))


def _own_text(paths: Iterator[Path]) -> Iterator[Path]:
    """Without files of a corpus or of a campaign's checkpoints and results."""
    verdicts: dict[Path, bool] = {}

    def written_by_tenfold(folder: Path) -> bool:
        if folder not in verdicts:
            own = (
                is_corpus(folder)
                or is_saved_model(folder)
                or (folder.name in OWN_FOLDERS and (folder.parent / CAMPAIGN).is_file())
            )
            verdicts[folder] = own or (folder != folder.parent and written_by_tenfold(folder.parent))
        return verdicts[folder]

    for path in paths:
        generated = _generated(path.name) and (path.parent / CAMPAIGN).is_file()
        if not generated and not written_by_tenfold(path.parent):
            yield path
