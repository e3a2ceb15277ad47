"""Which files a source reads: of a folder those of its kind, by what is in them."""

import glob
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tenfold.core import LOGGER, InputError
from tenfold.data.paths import glob_files, walk
from tenfold.data.reading.formats import KINDS, LINE_SUFFIXES, TEXT_KEYS, FileForm, Look, look_at
from tenfold.data.reading.inputs import InputFile, is_url, list_url, special_file

SOURCE_PATHS = "data.sources.paths"
TAKEN = {"jsonl": "files of JSON records", "parquet": "parquet files"}
"""What a source of each kind takes of a folder."""
LOOKED_AT_REMOTELY = 50
"""Files at a URL that are looked into, where each look is a request; of the others the names are trusted."""
PLAIN_SUFFIXES = (".txt", ".md", ".rst", ".py", ".html", ".xml", ".csv", ".tsv", ".tex")


def expand_paths(
    patterns: Sequence[str], base: Path, kind: str, key: str, text_key: str | None = None
) -> list[InputFile]:
    """Files named by paths, folders, globs and URLs, sorted; of a folder those of this kind.

    Raises InputError, naming `key`, for one that names nothing, or no file that has `text_key`.
    """
    found: set[InputFile] = set()
    for pattern in patterns:
        files, is_folder = list_files(pattern, base, key)
        taken = [file for file in files if takes(file, kind, text_key)] if is_folder else files
        if not taken:
            raise InputError(_nothing(files, pattern if is_url(pattern) else str(base / pattern), kind, key, text_key))
        found.update(taken)
    return sorted(found)


def list_files(pattern: str, base: Path, key: str) -> tuple[list[InputFile], bool]:
    """All files that a path, folder, glob or URL names, and whether it is a folder, of which not all may be meant.

    Raises InputError, naming `key`, for what cannot be listed or is no file.
    """
    if is_url(pattern):
        return list_url(pattern, key), not glob.has_magic(pattern) and not Path(pattern).suffix
    path = base / pattern
    if path.is_dir():
        return list(_local(walk(path))), True
    if path.exists():
        if (what := special_file(path.stat().st_mode)) is not None:
            raise InputError(f"{path}: {what}, not a file; {key} takes files, folders, globs; save the text as a file")
        return list(_local([path])), False
    return list(_local(glob_files(path))), not path.suffix


def _local(paths: Iterable[Path]) -> Iterator[InputFile]:
    for path in paths:
        try:
            yield InputFile.local(path)
        except FileNotFoundError:
            continue  # gone since it was listed


def takes(file: InputFile, kind: str, text_key: str | None) -> bool:
    """Whether a source of this kind and key takes a file of a folder."""
    look = look_quietly(file)
    return kind_of(file, look) == kind and not (look is not None and text_key is not None and look.lacks(text_key))


def look_quietly(file: InputFile) -> Look | None:
    """A look at a file; None where it cannot be read, or where the name of a remote one says enough."""
    if not file.is_local and file.has_suffix(*LINE_SUFFIXES, ".parquet", *PLAIN_SUFFIXES):
        return None
    try:
        return look_at(file)
    except OSError:
        return None


def kind_of(file: InputFile, look: Look | None) -> str:
    """The kind of source that reads a file; what is no text goes to the kind of its name, to be reported there."""
    if look is not None and look.form in KINDS:
        return KINDS[look.form]
    if file.has_suffix(".parquet"):
        return "parquet"
    return "jsonl" if file.has_suffix(*LINE_SUFFIXES) else "files"


def _nothing(files: Sequence[InputFile], path: str, kind: str, key: str, text_key: str | None) -> str:
    """Why a path gives no file, for one line."""
    looks = {file: look for file in files if (look := look_quietly(file)) is not None and kind_of(file, look) == kind}
    if text_key is not None and any(look.keys for look in looks.values()):
        return no_text_under(text_key, looks)
    hint = f' (of a folder, kind "{kind}" takes {TAKEN[kind]})' if kind in TAKEN else ""
    hint += " (`~` is not your home here: write the path out)" if "/~" in path else ""
    return f"{path}: no such file, or nothing to read in this folder; {key} takes files, folders, globs{hint}"


def no_text_under(text_key: str, looks: Mapping[InputFile, Look]) -> str:
    """The one line for files of which none has text under a key."""
    first, look = next(iter(looks.items()))
    typed = next((key for key in look.keys if key.startswith(f"{text_key} (")), None)
    if typed is not None:
        others = ", ".join(look.text_keys) or "none"
        what = "column" if look.form == FileForm.PARQUET else "key"
        return f"{first.name}: {what} {typed} holds no text; {what}s that do, for text_key: {others}"
    keys = sorted({key for each in looks.values() for key in each.keys})
    inside = "; text inside of a list or object is not looked for: write it out under a key of the record"
    nested = inside if any(key.endswith((" (a list)", " (an object)")) for key in keys) else ""
    return f"{first.name}: no record of this source has the key {text_key!r}; keys there are: {', '.join(keys)}{nested}"


def sources_of(data: str) -> list[dict[str, Any]]:
    """The sources that one path, glob or URL stands for, one for each kind of file and key of text there.

    Raises InputError where there is nothing to read.
    """
    path = Path(data)
    if is_url(data):
        files = list_url(data, "--data")[:LOOKED_AT_REMOTELY]
    else:
        files, _ = list_files(str(path.absolute()), Path(), "--data")
        if not files and not path.is_dir():
            raise InputError(f"--data {data}: no {'file matches' if glob.has_magic(data) else 'such file or folder'}")
    if not files:
        raise InputError(f"--data {data}: no file to read in this folder")
    sources = sorted(_kinds_and_keys(files, data), key=lambda source: (source[0], source[1] or ""))
    where = data if is_url(data) else str(path.absolute())
    return [
        {"kind": kind, "paths": [where], **({"text_key": key} if key not in (None, "text") else {})}
        for kind, key in sources
    ]


def _kinds_and_keys(files: Sequence[InputFile], data: str) -> set[tuple[str, str | None]]:
    found: set[tuple[str, str | None]] = set()
    no_text: list[str] = []
    for file in files:
        look = look_quietly(file)
        if look is not None and look.reason:
            no_text.append(f"{Path(file.name).name}: {look.detail}")
        if look is not None and look.empty:
            no_text.append(f"{Path(file.name).name}: no record in it")
        elif look is None or look.form != FileForm.OTHER:
            kind = kind_of(file, look)
            found.add((kind, None if kind == "files" else _text_key(file, look)))
    if not found:
        raise InputError(f"--data {data}: no text in these files ({no_text[0]})")
    return found


def _text_key(file: InputFile, look: Look | None) -> str:
    """The key of the text; a guess is told."""
    if look is None or not look.text_keys or "text" in look.text_keys:
        return "text"
    key = look.text_keys[0]
    if key.lower() not in TEXT_KEYS:
        logging.getLogger(LOGGER).warning(
            "%s: no key is named as text usually is; the longest texts are under %r, so text_key = %r is written; "
            "change it if that is not the text (keys: %s)",
            file.name,
            key,
            key,
            ", ".join(look.keys),
        )
    return key
