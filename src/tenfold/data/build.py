"""From sources to a corpus on disk: read, clean, deduplicate, hold out, decontaminate, tokenise, write.

The work is cut into tasks (`data/tasks`), which any number of processes may do in any order: the corpus is the same to
the byte. A build that is killed goes on with the tasks that were not done. The corpus is moved into its place when it
is whole, so there is the old one or none until then.
"""

import json
import shutil
import unicodedata
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from tenfold.config import Data, Read, digestible
from tenfold.core import InputError, TenfoldError, digest_of
from tenfold.data.corpus import write_synced
from tenfold.data.ingest import Report
from tenfold.data.inputs import Inputs, fingerprints
from tenfold.data.manifest import FORMAT, MANIFEST, Manifest, asked_for
from tenfold.data.paths import foreign_entry
from tenfold.data.tasks.engine import open_engine
from tenfold.data.tasks.graph import Build, plan_build
from tenfold.data.tasks.job import PLAN, start_job
from tenfold.data.tasks.store import WorkFiles, open_work

LIBRARIES = ("numpy", "tokenizers")  # whose version may change what is built


def build_corpus(
    data: Data, seed: int, directory: Path, base: Path, report: Report, keep: Path | None = None
) -> Manifest:
    """Build the corpus of `data` in `directory`; paths in `data` are relative to `base`. No-op if nothing changed.

    The corpus that was there before goes to `keep`, or is deleted.

    Raises InputError when a source, holdout or tokenizer is unusable or `directory` holds anything but a corpus,
    TenfoldError when the disk refuses.
    """
    building, old = directory.with_name(f".{directory.name}.building"), _old(directory)
    work = open_work(data.work if data.work and "://" in data.work else str(_work_folder(data, directory, base)))
    if old.exists() and directory.exists():  # killed just after the last build
        shutil.rmtree(old, ignore_errors=True)
    try:
        made_from = _made_from(data, seed, base)
        if (directory / MANIFEST).exists():
            manifest = Manifest.load(directory)
            if manifest.made_from == made_from:
                work.clear(first=PLAN)  # killed just before its end
                return manifest
        _refuse_foreign(directory)
        manifest = _build(data, seed, base, building, work, made_from, report)
        _move_into_place(building, directory, keep)
    except OSError as error:
        raise _explain(error, directory) from error
    except InputError:
        shutil.rmtree(building, ignore_errors=True)
        work.clear(first=PLAN)
        raise
    work.clear(first=PLAN)
    return manifest


def _work_folder(data: Data, directory: Path, base: Path) -> Path:
    """Where a build of this machine works: hidden, since sources may lie beside it."""
    return base / data.work / ".tenfold-work" if data.work else directory.with_name(f".{directory.name}.work")


def _build(
    data: Data, seed: int, base: Path, building: Path, work: WorkFiles, made_from: str, report: Report
) -> Manifest:
    """The corpus in `building`, whole."""
    job, is_new = start_job(work, plan_build(data, seed, base, made_from))
    if is_new:
        shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True, exist_ok=True)
    with open_engine(data) as engine:
        manifest = Build(job, engine, building, report).run(made_from)
    manifest = replace(manifest, asked_for=asked_for(data, seed), inputs=Inputs.of(data, base).to_dict())
    write_synced(building / MANIFEST, json.dumps(manifest.to_dict(), indent=1, sort_keys=True).encode())
    return manifest


def _refuse_foreign(directory: Path) -> None:
    """A corpus replaces a corpus and nothing else: what a user put there is not ours to delete."""
    if (entry := foreign_entry(directory)) is not None:
        raise InputError(
            f"{directory}: holds {entry!r}, which is no part of a corpus; the corpus is written here, so move "
            "what is here (and set data.sources.paths accordingly if it is your text)"
        )


def _explain(error: OSError, directory: Path) -> TenfoldError:
    """Say whether reading what was given or writing the corpus failed."""
    ours = [directory.with_name(f".{directory.name}.{what}") for what in ("building", "work")]
    if error.filename and not any(Path(str(error.filename)).is_relative_to(folder) for folder in ours):
        return InputError(f"{error.filename}: cannot be read ({error.strerror})")
    return TenfoldError(
        f"{directory}: the corpus could not be written ({error.strerror or error}); make room or choose another "
        "directory, then run again"
    )


def _move_into_place(building: Path, directory: Path, keep: Path | None) -> None:
    _refuse_foreign(directory)  # it may have come while the build went on
    old = _old(directory)
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        if keep:
            keep.parent.mkdir(exist_ok=True)
            shutil.rmtree(keep, ignore_errors=True)
        directory.rename(keep or old)
    building.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def _old(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.old")


def _made_from(data: Data, seed: int, base: Path) -> str:
    """FORMAT, and a digest of everything else the corpus is a function of; of files their names, sizes and times.

    tenfold's own source counts where it is scored. Where it is only kept out, a corpus built beside an older version of
    it stands: else every change of tenfold would cost a build.
    """
    libraries = [(name, version(name)) for name in LIBRARIES] + [("unicode", unicodedata.unidata_version)]
    inputs = list(fingerprints(data, base).items())
    content = [digestible(data), seed, libraries, inputs]
    if data.read != Read() and any(holdout.paths for holdout in data.holdouts):
        content.append("holdouts are read within [data.read]")  # before, they were not
    return f"{FORMAT}:{digest_of(content)}"
