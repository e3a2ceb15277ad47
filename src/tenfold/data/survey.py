"""A first look at all sources, before anything is read: what is not going to be read, and where parts disagree."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tenfold.config import Holdout, Source
from tenfold.core import LOGGER, InputError, count
from tenfold.data.clean import Reject
from tenfold.data.holdouts import HOLDOUT_PATHS, as_source
from tenfold.data.listing import SOURCE_PATHS, expand_paths, kind_of, list_files, look_quietly, no_text_under
from tenfold.data.paths import no_files
from tenfold.data.reading.formats import KINDS, STRINGS, FileForm, Look
from tenfold.data.reading.inputs import InputFile, is_url

NAMED = 3
"""Files named in one line; the others are counted."""
NOT_TAKEN = "not-taken"


@dataclass
class _Survey:
    base: Path
    key: str = SOURCE_PATHS
    """The key that names what is looked at."""
    taken: set[InputFile] = field(default_factory=set)
    listed: dict[InputFile, str] = field(default_factory=dict)
    """Files of folders, with the name of a source that names the folder."""

    @property
    def one(self) -> str:
        """What is looked at, one of it: a source or a holdout."""
        return self.key.split(".")[1].removesuffix("s")

    def add(self, name: str, source: Source) -> None:
        files = expand_paths(source.paths, self.base, source.kind, self.key, source.text_key)
        self.taken.update(files)
        for pattern in source.paths:
            listed, is_folder = list_files(pattern, self.base, self.key)
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
                f"{self.one} {name!r}: {len(wrong)} of {count(len(files), 'file')} will give nothing: {_some(named)}; "
                f"give them a {self.one} of their own, with its kind and text_key, or take them out"
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
        strings = [file.shown(self.base) for file, look in looks.items() if look.detail == STRINGS]
        if strings:
            _warn(
                f"{_some(strings)}: a list of JSON strings, read as it stands, with quotes and escapes; write records "
                'such as {"text": "…"}, one a line, and they are read as texts'
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
                f"{count(len(rejects), 'file')} of the folders of [data.{self.one}s] belong to no {self.one} and are "
                f"not read: {_some(named)}; give each kind and text_key a {self.one} of its own, or take them out"
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


def survey_holdouts(holdouts: Sequence[Holdout], base: Path) -> list[Reject]:
    """The same for evaluation sets that are given as files."""
    state = _Survey(base, HOLDOUT_PATHS)
    for holdout in holdouts:
        if holdout.kind in KINDS.values():
            state.add(holdout.name, as_source(holdout))
    return [replace(file, source=f"holdout {file.source}") for file in state.left_over()]


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
    if look is not None and look.empty:
        return "no record in it"
    keys = f", keys {', '.join(look.keys)}" if look is not None and look.keys else ""
    return f'of kind "{kind_of(file, look)}"{keys}'


def _some(named: Sequence[str]) -> str:
    rest = len(named) - NAMED
    return ", ".join(named[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


def _warn(line: str) -> None:
    logging.getLogger(LOGGER).warning("%s", line)
