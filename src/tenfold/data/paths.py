"""Files below a folder or that match a glob; what is tenfold's own output is left out."""

import glob
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tenfold.core import OWN_FILES, OWN_FOLDERS, OWNER_FILE, InputError
from tenfold.data.reading.inputs import special_file

SKIPPED_FOLDERS = {"__pycache__", "site-packages", "dist-packages", "node_modules"}
CAMPAIGN = "campaign.toml"
EXPORTED = ("config.json", "model.safetensors", "tokenizer.json")
LEDGER = "ledger.sqlite"
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
REJECTS = "rejects.jsonl"
BUILD_RECORD = "build.json"
CORPUS_ENTRIES = {MANIFEST, TOKENIZER, REJECTS, BUILD_RECORD, "audit.json", ".audit.json.tmp", "shards", "holdouts"}


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
    if re.fullmatch(r"(damaged-)?step-\d{8}(-\d+)?", directory.name) and (directory / MANIFEST).is_file():
        return True
    return all((directory / name).is_file() for name in EXPORTED)


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


def walk(root: Path, *, follow_links: bool = True) -> list[Path]:
    """Files below `root`, sorted: without hidden ones, caches, installed packages and what tenfold wrote.

    Linked folders are followed, each real folder once, so that a loop of links ends.
    """
    return [path for path in _entries(root, follow_links=follow_links) if path.is_file()]


def no_files(root: Path) -> dict[Path, str]:
    """What lies below `root` and is no file, and why: FIFOs, sockets, devices, links that lead nowhere."""
    return {path: _why_no_file(path) for path in _entries(root, follow_links=True) if not path.is_file()}


def _why_no_file(path: Path) -> str:
    try:
        return special_file(path.stat().st_mode) or "no regular file"
    except OSError:
        return "a link that leads nowhere" if path.is_symlink() else "gone"


def _entries(root: Path, *, follow_links: bool) -> list[Path]:
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
        found += (here / name for name in names if not name.startswith(".") and not _generated(name, is_campaign))
    return sorted(found)


def _generated(name: str, is_campaign: bool) -> bool:
    """Whether a file is one that tenfold writes: in the folder of a campaign, or of checkpoints."""
    return name == OWNER_FILE or (is_campaign and (name in OWN_FILES or name.startswith(LEDGER)))


def _refuse(root: Path) -> Callable[[OSError], None]:
    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename or root}: cannot be read ({error.strerror})") from error

    return refuse


def glob_files(pattern: Path) -> list[Path]:
    """Files that match an absolute or relative glob, `**` included; none that tenfold wrote.

    As in a shell, hidden files and what lies in hidden folders (`.git`, a build that was killed) match only a pattern
    that has a dot itself.
    """
    first = next((number for number, part in enumerate(pattern.parts) if glob.has_magic(part)), len(pattern.parts))
    root, rest = Path(*pattern.parts[:first]), pattern.parts[first:]
    matches = root.glob(str(Path(*rest))) if rest else iter(())
    wants_hidden = any(part.startswith(".") for part in rest)
    seen = (path for path in matches if wants_hidden or not _is_hidden(path.relative_to(root)))
    return list(_own_text(path for path in seen if path.is_file()))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


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
        generated = _generated(path.name, (path.parent / CAMPAIGN).is_file())
        if not generated and not written_by_tenfold(path.parent):
            yield path
