"""Where text comes from: which files a source reads, and its documents in a fixed order."""

import importlib.util
import sysconfig
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow

from tenfold.config import Clean, Read, Source
from tenfold.core import InputError
from tenfold.data.clean import Document, Found, Reject, part_size
from tenfold.data.listing import SOURCE_PATHS, expand_paths
from tenfold.data.paths import walk
from tenfold.data.reading.files import MISSING_KEY, UNREADABLE, Reader, read_each
from tenfold.data.reading.inputs import InputFile

UNREADABLE_ROWS = (OSError, EOFError, ValueError, RuntimeError, zlib.error, pyarrow.ArrowException)
"""What the readers under `datasets` raise for a set that is not there, damaged or of an unknown kind."""
TEXT_SUFFIXES = {".py", ".txt", ".rst", ".md"}
LICENCES = {"python-stdlib": "PSF-2.0"}


def source_files(source: Source, base: Path, key: str = SOURCE_PATHS) -> list[InputFile]:
    """Every file a source reads, sorted; `key` is blamed for a path that names none."""
    match source.kind:
        case "python-stdlib":
            return [InputFile.local(path) for path in stdlib_files()]
        case "hf":
            return []  # a remote data set is taken to stay as it is
    return expand_paths(source.paths, base, source.kind, key, source.text_key)


def source_reader(
    source: Source, name: str, base: Path, read: Read, clean: Clean | None, files: Sequence[InputFile]
) -> Reader:
    """What reads any one of the `files` of a source; how finely texts are cut depends on all of them.

    Without `clean` (an evaluation set) no text is cut or too short.
    """
    own_library = source.kind == "python-stdlib"
    split = clean.split_bytes if clean else 0
    return Reader(
        name,
        "files" if own_library else source.kind,
        Path(sysconfig.get_path("stdlib")) if own_library else base,
        source.text_key,
        source.encoding,
        read,
        clean,
        part_size([file.size for file in files], split) if source.kind == "files" else split,
    )


def read_source(
    source: Source, name: str, base: Path, read: Read, clean: Clean | None, key: str = SOURCE_PATHS
) -> Iterator[Found]:
    """Everything in one source, in order. Raises InputError when it is missing or holds nothing of its kind."""
    files = source_files(source, base, key)
    reader = source_reader(source, name, base, read, clean, files)
    if source.kind == "hf":
        return with_any_key(read_hugging_face(source, reader), source.text_key)
    found = read_each(reader, files)
    return found if reader.kind == "files" else with_any_key(found, source.text_key)


def read_texts(name: str, paths: Iterable[Path], base: Path) -> Iterator[Found]:
    """Files of text, each whole; named relative to `base`."""
    return read_each(Reader(name, "files", base), map(InputFile.local, paths))


def stdlib_files() -> list[Path]:
    """Source and text of the running interpreter's own library, sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    return [path for path in walk(root, follow_links=False) if path.suffix in TEXT_SUFFIXES]


def with_any_key(found: Iterable[Found], text_key: str) -> Iterator[Found]:
    """What was found; InputError at its end when no record has the key, or no file could be read at all."""
    good, keys, first_bad = False, set[str](), None
    for each in found:
        if isinstance(each, Reject) and each.reason in (MISSING_KEY, UNREADABLE):
            first_bad = first_bad or each
            keys.update(each.detail.split(", ") if each.reason == MISSING_KEY else ())
        else:
            good = good or isinstance(each, Document) or each_is_of_key(each)
        yield each
    if not good and first_bad is not None:
        raise InputError(unusable(first_bad, text_key, sorted(keys)))


def each_is_of_key(found: Found) -> bool:
    """Whether a reject is of a text: its key was there."""
    return isinstance(found, Reject) and found.reason in ("too-short", "too-long", "empty")


def unusable(first_bad: Reject, text_key: str, keys: Sequence[str]) -> str:
    """The one line for a source of which nothing could be read."""
    if first_bad.reason == MISSING_KEY:
        return (
            f"{first_bad.where}: no record of this source has the key {text_key!r}; keys there are: {', '.join(keys)}"
        )
    return f"{first_bad.where}: cannot be read ({first_bad.detail})"


def read_hugging_face(source: Source, reader: Reader) -> Iterator[Found]:
    """Rows of a Hugging Face data set, streamed. Raises InputError when `datasets` is missing or the set is."""
    if importlib.util.find_spec("datasets") is None:
        raise InputError("a source of kind \"hf\" needs the package datasets; install it: pip install 'tenfold[hf]'")
    import datasets

    where = f"{source.dataset}/{source.subset or 'default'}/{source.split}"
    try:
        rows = datasets.load_dataset(source.dataset, source.subset, split=source.split, streaming=True)
        for number, row in enumerate(rows, start=1):
            yield from reader.row(row, f"{where}:{number}")
    except (*UNREADABLE_ROWS, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"data set {where}: cannot be read ({_two_lines(error)})") from error


def _two_lines(error: Exception) -> str:
    """What an error says first: of a hub's the first line has the status alone."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
