"""The files that a corpus is built from: how many, how large, and whether they are the same as when it was built."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tenfold.config import Data
from tenfold.core import InputError, byte_size, count, digest_of
from tenfold.data.holdouts import holdout_files
from tenfold.data.ingest import name_sources
from tenfold.data.manifest import Manifest
from tenfold.data.reading.decompress import SUFFIXES
from tenfold.data.reading.inputs import InputFile
from tenfold.data.sources import source_files

TOKENIZER_KEY = "data.tokenizer.path"
Fingerprints = dict[str, list[tuple[str, int, int | str]]]
"""(name, bytes, time of the last change or version at its store) of every file, by what it is read for."""


@dataclass(frozen=True)
class Inputs:
    """All files at one moment, told apart by name, size and time."""

    files: int
    bytes: int
    digest: str

    def __str__(self) -> str:
        return f"{count(self.files, 'file')} of {byte_size(self.bytes)}"

    @classmethod
    def of(cls, data: Data, base: Path) -> Self:
        """As they are now. Raises InputError where one that is named is not there."""
        found = fingerprints(data, base)
        every = {each for files in found.values() for each in files}
        return cls(len(every), sum(size for _, size, _ in every), digest_of(found))

    def differs(self, manifest: Manifest) -> bool:
        """Whether a corpus was built from other files, as far as its manifest knows."""
        return bool(manifest.inputs) and manifest.inputs.get("digest") != self.digest

    def to_dict(self) -> dict[str, Any]:
        """As a manifest keeps them."""
        return asdict(self)


def fingerprints(data: Data, base: Path) -> Fingerprints:
    """Every file that is read, by what for; paths in `data` are relative to `base`."""
    return {name: [file.fingerprint(base) for file in files] for name, files in input_files(data, base).items()}


def input_files(data: Data, base: Path) -> dict[str, list[InputFile]]:
    """Every file that is read, by what for."""
    files = {name: source_files(source, base) for name, source in name_sources(data.sources)}
    files |= {f"holdout {holdout.name}": holdout_files(holdout, base) for holdout in data.holdouts}
    if data.tokenizer.path:
        files["tokenizer"] = [InputFile.local(_tokenizer_file(base / data.tokenizer.path))]
    return files


EXPANSION = {"compressed": 4.0, "parquet": 2.5}
"""Bytes of text in a byte of file, about, where it is not one."""


def estimated_text_bytes(data: Data, base: Path) -> int:
    """Bytes of text in the sources, guessed from the sizes of their files. Raises InputError where one is not there."""
    files = [(source.kind, file) for name, source in name_sources(data.sources) for file in source_files(source, base)]
    return int(sum(file.size * _expansion(kind, file) for kind, file in files))


def _expansion(kind: str, file: InputFile) -> float:
    if kind == "parquet":
        return EXPANSION["parquet"]
    return EXPANSION["compressed"] if file.name.lower().endswith(tuple(SUFFIXES)) else 1.0


def _tokenizer_file(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: no such file; {TOKENIZER_KEY} takes a tokenizer.json")
    return path
