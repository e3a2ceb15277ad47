"""A first look at all sources, before anything is read: what is not going to be read, and where parts disagree."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tenfold.config import Source
from tenfold.core import LOGGER, InputError, count
from tenfold.data.clean import Reject
from tenfold.data.listing import SOURCE_PATHS, expand_paths, kind_of, list_files, look_quietly, no_text_under
from tenfold.data.paths import no_files
from tenfold.data.reading.formats import KINDS, FileForm, Look
from tenfold.data.reading.inputs import InputFile, is_url

NAMED = 3
"""Files named in one line; the others are counted."""
NOT_TAKEN = "not-taken"


@dataclass
class _Survey:
    base: Path
    taken: set[InputFile] = field(default_factory=set)
    listed: dict[InputFile, str] = field(default_factory=dict)
    """Files of folders, with the name of a source that names the folder."""

    def add(self, name: str, source: Source) -> None:
        files = expand_paths(source.paths, self.base, source.kind, SOURCE_PATHS, source.text_key)
        self.taken.update(files)
        for pattern in source.paths:
            listed, is_folder = list_files(pattern, self.base, SOURCE_PATHS)
            if is_folder:
                self.listed |= {file: name for file in listed if file not in self.listed}
                self._say_no_files(pattern)
        self._say_disagreement(name, source, files)

    def _say_no_files(self, pattern: str) -> None:
        path = self.base / pattern
        if not is_url(pattern) and path.is_dir() and (strange := no_files(path)):
            named = [f"{each.relative_to(path)} ({why})" for each, why in strange.items()]
            _warn(f"{path}: left out, as no file: {_some(named)}")

    def _say_disagreement(self, name: str, source: Source, files: Sequence[InputFile]) -> None:
        """Warn of files that this source is going to read in vain. Raises InputError where all of them are."""
        looks = {file: look for file in files if (look := look_quietly(file)) is not None}
        if source.kind == "files":
            self._refuse_other_kinds(looks)
            self._say_raw_json(looks)
            return
        wrong = {file: why for file, look in looks.items() if (why := _wrong(look, source))}
        if wrong and len(wrong) == len(files):
            first, why = next(iter(wrong.items()))
            unreadable = f"{first.name}: cannot be read ({why})"
            raise InputError(no_text_under(source.text_key, looks) if looks[first].keys else unreadable)
        if wrong:
            named = [f"{file.shown(self.base)} ({why})" for file, why in wrong.items()]
            _warn(
                f"source {name!r}: {len(wrong)} of {count(len(files), 'file')} will give nothing: {_some(named)}; give "
                "them a source of their own, with its kind and text_key, or take them out"
            )

    def _refuse_other_kinds(self, looks: Mapping[InputFile, Look]) -> None:
        for file, look in looks.items():
            if look.form == FileForm.PARQUET:
                raise InputError(f'{file.name}: a parquet file; a source of kind "parquet" reads it')

    def _say_raw_json(self, looks: Mapping[InputFile, Look]) -> None:
        records = [file.shown(self.base) for file, look in looks.items() if look.form == FileForm.JSON]
        if records:
            _warn(
                f"{_some(records)}: JSON records, read as they stand, with keys and braces; a source of kind "
                '"jsonl" reads the text in them'
            )

    def left_over(self) -> list[Reject]:
        """Files of folders that no source takes, with a warning."""
        left = {file: name for file, name in self.listed.items() if file not in self.taken}
        rejects = []
        for file, name in left.items():
            look = look_quietly(file)
            detail = _what_it_is(file, look)
            rejects.append(Reject(name, file.name, (look and look.reason) or NOT_TAKEN, detail, file.size))
        if rejects:
            named = [f"{InputFile(each.where, 0, 0).shown(self.base)} ({each.detail})" for each in rejects]
            _warn(
                f"{count(len(rejects), 'file')} of the folders of [data.sources] belong to no source and are not read: "
                f"{_some(named)}; give each kind and text_key a source of its own, or take them out"
            )
        return rejects


def survey(sources: Sequence[tuple[str, Source]], base: Path) -> list[Reject]:
    """Look at every file of every source, and warn of what will be lost; returns the files that no source takes.

    Raises InputError when a source can give nothing at all.
    """
    state = _Survey(base)
    for name, source in sources:
        if source.kind in KINDS.values():
            state.add(name, source)
    return state.left_over()


def _wrong(look: Look, source: Source) -> str | None:
    """Why a file gives this source nothing."""
    if look.form in KINDS and KINDS[look.form] != source.kind and look.form == FileForm.PARQUET:
        return 'a parquet file; a source of kind "parquet" reads it'
    if look.form == FileForm.OTHER:
        return look.detail
    if source.kind == "parquet" and look.form != FileForm.PARQUET:
        return "not a parquet file"
    if look.lacks(source.text_key):
        return f"no text under {source.text_key!r}; keys: {', '.join(look.keys)}"
    return None


def _what_it_is(file: InputFile, look: Look | None) -> str:
    if look is not None and look.reason:
        return look.detail
    keys = f", keys {', '.join(look.keys)}" if look is not None and look.keys else ""
    return f'of kind "{kind_of(file, look)}"{keys}'


def _some(named: Sequence[str]) -> str:
    rest = len(named) - NAMED
    return ", ".join(named[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


def _warn(line: str) -> None:
    logging.getLogger(LOGGER).warning("%s", line)
