"""From sources to a corpus on disk: read, clean, deduplicate, hold out, decontaminate, tokenise, write.

The work is cut into tasks (`data/tasks`), which any number of processes may do in any order: the corpus is the same to
the byte. A build that is killed goes on with the tasks that were not done. The corpus is moved into its place when it
is whole, so there is the old one or none until then.
"""

import json
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.config import Data, digestible
from tenfold.core import InputError, Progress, TenfoldError, digest_of
from tenfold.data.clean import Funnel, Reject, part_size
from tenfold.data.corpus import token_dtype, write_synced
from tenfold.data.holdouts import HeldOutSet, holdout_files
from tenfold.data.ingest import Report, name_sources, why
from tenfold.data.manifest import MANIFEST, HoldoutText, IsolatedText, Manifest, Shard, SourceText, asked_for
from tenfold.data.paths import REJECTS, TOKENIZER, foreign_entry
from tenfold.data.sources import LICENCES, nothing_of, source_files
from tenfold.data.tasks.engine import Engine, open_engine
from tenfold.data.tasks.job import PARTS, Job, Part, Plan, Reading, start_job
from tenfold.data.tasks.keep import texts_of
from tenfold.data.tasks.read import group_files
from tenfold.data.tasks.store import Store, open_store
from tenfold.data.tasks.tables import Rows
from tenfold.data.tasks.write import encode_exactly, shards_of, tokenizer_of

FORMAT = 1
"""Raised by whoever changes which corpus a configuration gives: then older corpora are built again. Else the code may
change and they stand."""
TOKENIZER_KEY = "data.tokenizer.path"
LIBRARIES = ("datasketch", "numpy", "tokenizers")  # whose version may change what is built


PART_BYTES = 8 << 20
"""Text of one part, at least; larger corpora have larger parts, so that there are some thousands of them at most."""
MOST_PARTS = 2048
LARGEST_PART = 256 << 20
BUCKET_BYTES = 512 << 20
"""Text whose hashes are merged at once: about a tenth of that in memory for documents of 4 kB."""
DURABLE_BYTES = 64 << 20
"""Text whose build goes on after a power cut too, and not only after a kill."""
LABELS = {
    "given": "reading the holdouts",
    "read": "reading",
    "copies": "finding exact copies",
    "signatures": "signing documents",
    "bands": "finding near-duplicates",
    "clusters": "joining near-duplicates",
    "sets": "choosing what is held out",
    "keep": "decontaminating",
    "tokenizer": "training the tokenizer",
    "tokenise": "tokenising",
    "layout": "laying out shards",
    "shards": "writing shards",
}


def build_corpus(data: Data, seed: int, directory: Path, base: Path, report: Report) -> Manifest:
    """Build the corpus of `data` in `directory`; paths in `data` are relative to `base`. No-op if nothing changed.

    Raises InputError when a source, holdout or tokenizer is unusable or `directory` holds anything but a corpus,
    TenfoldError when the disk refuses.
    """
    building, old = directory.with_name(f".{directory.name}.building"), _old(directory)
    work = open_store(data.work if data.work and "://" in data.work else str(_work_folder(data, directory, base)))
    if old.exists() and directory.exists():  # killed just after the last build
        shutil.rmtree(old, ignore_errors=True)
    try:
        made_from = _made_from(data, seed, base)
        if (directory / MANIFEST).exists():
            manifest = Manifest.load(directory)
            if manifest.made_from == made_from:
                work.clear()  # killed just before its end
                return manifest
            if _is_of_before(manifest, directory, data, seed, base):
                report(Progress("kept, as an earlier tenfold built it from the same text", 0, None, ""))
                return manifest
        _refuse_foreign(directory)
        manifest = _build(data, seed, base, building, work, made_from, report)
        _move_into_place(building, directory)
    except OSError as error:
        raise _explain(error, directory) from error
    except InputError:
        shutil.rmtree(building, ignore_errors=True)
        work.clear()
        raise
    work.clear()
    return manifest


def _work_folder(data: Data, directory: Path, base: Path) -> Path:
    """Where a build of this machine works: hidden, since sources may lie beside it."""
    return base / data.work / ".tenfold-work" if data.work else directory.with_name(f".{directory.name}.work")


def _build(data: Data, seed: int, base: Path, building: Path, work: Store, made_from: str, report: Report) -> Manifest:
    """The corpus in `building`, whole."""
    job, is_new = start_job(work, _plan(data, seed, base, made_from))
    if is_new:
        shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True, exist_ok=True)
    with open_engine(data) as engine:
        manifest = _Build(job, engine, building, report).run(made_from)
    manifest = replace(manifest, asked_for=asked_for(data, seed))
    write_synced(building / MANIFEST, json.dumps(manifest.to_dict(), indent=1, sort_keys=True).encode())
    return manifest


def _plan(data: Data, seed: int, base: Path, made_from: str) -> Plan:
    """How the work is cut. It depends on the sources alone, so that a build goes on under another engine."""
    files = [source_files(source, base) for source in data.sources]
    sizes = [[path.stat().st_size for path in own] for own in files]
    total = sum(map(sum, sizes))
    part_bytes = min(LARGEST_PART, max(PART_BYTES, total // MOST_PARTS))
    readings: list[Reading] = []
    for number, (source, own) in enumerate(zip(data.sources, files, strict=True)):
        split_bytes = data.clean.split_bytes
        if source.kind == "files":
            split_bytes = part_size(sizes[number], split_bytes)
        if source.max_documents or source.kind == "hf":  # one after the other: where to stop depends on all before
            readings.append(Reading(number, [str(path) for path in own], sum(sizes[number]), split_bytes))
        else:
            readings += group_files(own, number, part_bytes, split_bytes)
    cut = [part_bytes, total // BUCKET_BYTES + 1, [asdict(each) for each in readings]]
    durable = total > DURABLE_BYTES
    return Plan(
        token=digest_of([made_from, version("tenfold"), cut, None if durable else _boot()]),
        data=digestible(data),
        seed=seed,
        base=str(base.absolute()),
        part_bytes=part_bytes,
        buckets=total // BUCKET_BYTES + 1,
        durable=durable,
        readings=readings,
    )


def _boot() -> str:
    """Something that is different after this machine has started anew."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii") if path.exists() else ""


def _refuse_foreign(directory: Path) -> None:
    """A corpus replaces a corpus and nothing else: what a user put there is not ours to delete."""
    if (entry := foreign_entry(directory)) is not None:
        raise InputError(
            f"{directory}: holds {entry!r}, which is no part of a corpus; the corpus is written here, so move "
            "what is here (and set data.sources.paths accordingly if it is your text)"
        )


def _explain(error: OSError, directory: Path) -> TenfoldError:
    """Say whether reading what was given or writing the corpus failed."""
    if error.filename and not Path(str(error.filename)).is_relative_to(
        directory.parent / f".{directory.name}.building"
    ):
        return InputError(f"{error.filename}: cannot be read ({error.strerror})")
    return TenfoldError(
        f"{directory}: the corpus could not be written ({error.strerror or error}); make room or choose another "
        "directory, then run again"
    )


def _move_into_place(building: Path, directory: Path) -> None:
    _refuse_foreign(directory)  # it may have come while the build went on
    old = _old(directory)
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
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
    inputs = [(name, [_fingerprint(path, base) for path in paths]) for name, paths in _inputs(data, base).items()]
    return f"{FORMAT}:{digest_of([digestible(data), seed, libraries, inputs])}"


def _inputs(data: Data, base: Path) -> dict[str, list[Path]]:
    """Every file that is read, by what for."""
    files = {name: source_files(source, base) for name, source in name_sources(data.sources)}
    files |= {f"holdout {holdout.name}": holdout_files(holdout, base) for holdout in data.holdouts}
    if data.tokenizer.path:
        files["tokenizer"] = [_tokenizer_file(base / data.tokenizer.path)]
    return files


def _is_of_before(manifest: Manifest, directory: Path, data: Data, seed: int, base: Path) -> bool:
    """Whether a corpus that was built before there were formats, of format 1 then, is what is asked for now.

    It says not of which files it was made, but those that changed since are newer than its manifest.
    """
    if ":" in manifest.made_from or FORMAT != 1 or manifest.asked_for != asked_for(data, seed):
        return False
    built = (directory / MANIFEST).stat().st_mtime_ns
    return all(path.stat().st_mtime_ns <= built for paths in _inputs(data, base).values() for path in paths)


def _fingerprint(path: Path, base: Path) -> tuple[str, int, int]:
    """Name, size and time of a file; the name relative to the campaign, from wherever the command was given."""
    stat, real, root = path.stat(), path.absolute().resolve(), base.resolve()
    name = real.relative_to(root) if real.is_relative_to(root) else real
    return str(name), stat.st_size, stat.st_mtime_ns


def _tokenizer_file(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: no such file; {TOKENIZER_KEY} takes a tokenizer.json")
    return path


class _StageProgress:
    """What is told of one stage: bytes of text worked off, of all its tasks together."""

    def __init__(self, label: str, sizes: dict[int, int], report: Report) -> None:
        self._label, self._sizes, self._report = label, sizes, report
        self._total = sum(sizes.values())
        self._done, self._under_way = 0, dict[int, int]()
        self._tell()

    def beat(self, number: int, size: int) -> None:
        """A task has worked off so many bytes so far."""
        self._under_way[number] = min(size, self._sizes[number] or size)
        self._tell()

    def done(self, number: int) -> None:
        """A task is done."""
        self._under_way.pop(number, None)
        self._done += self._sizes[number]
        self._tell()

    def _tell(self) -> None:
        done = self._done + sum(self._under_way.values())
        self._report(Progress(self._label, done / 1000, self._total / 1000 if self._total else None, "kB"))


class _Build:
    """One build while it goes on: its stages in order."""

    def __init__(self, job: Job, engine: Engine, directory: Path, report: Report) -> None:
        self._job, self._engine, self._directory, self._report = job, engine, directory, report

    def run(self, made_from: str) -> Manifest:
        """All stages in order; returns the manifest, not yet written."""
        self._read()
        job, buckets = self._job, dict.fromkeys(range(self._job.plan.buckets), 0)
        everything = {number: part.bytes for number, part in enumerate(job.parts)}
        training = {number: size for number, size in everything.items() if number}
        self._stage("copies", buckets)
        self._stage("signatures", everything)
        if job.data.isolation.near_duplicate < 1:
            self._stage("bands", buckets)
        self._stage("clusters")
        self._stage("sets")
        self._stage("keep", training)
        kept = {number: int(result["bytes"]) for number, result in job.training_results("keep").items()}
        if not any(kept.values()) and not job.data.tokenizer.path:
            raise InputError("no training text is left after removing duplicates and held-out text; give more text")
        self._stage("tokenizer")
        self._stage("tokenise", kept)
        self._stage("layout")
        width = token_dtype(tokenizer_of(job).vocab_size).itemsize
        counts = [sum(count for _, _, count in shard["slices"]) for shard in shards_of(job)]
        self._stage("shards", {number: count * width for number, count in enumerate(counts)})
        return self._finish(made_from, kept)

    def _stage(self, name: str, sizes: dict[int, int] | None = None) -> None:
        """Do the tasks of a stage that are not done yet; `sizes` are the bytes of text of each."""
        sizes = {0: 0} if sizes is None else sizes
        finished = self._job.finished(name)
        progress = _StageProgress(LABELS[name], sizes, self._report)
        for number in sorted(finished & set(sizes)):
            progress.done(number)
        left = [number for number in sizes if number not in finished]
        self._engine.run(self._job.store.address, self._job.plan.token, name, left, progress)

    def _read(self) -> None:
        """Read everything, and number the documents once it is known how many there are."""
        job, readings = self._job, self._job.plan.readings
        self._stage("given")
        self._stage("read", {number: reading.bytes for number, reading in enumerate(readings)})
        results = job.results("read", len(readings))
        for number, (name, _) in enumerate(job.sources):
            own = [result for result, each in zip(results, readings, strict=True) if each.source == number]
            self._refuse_useless(name, number, own)
        parts, first = [], 0
        found = [("", part) for part in job.result("given", 0)["parts"]]
        for reading, result in zip(readings, results, strict=True):
            found += [(job.sources[reading.source][0], part) for part in result["parts"]]
        for source, part in found:
            parts.append(Part(part["name"], source, first, part["count"], part["bytes"]))
            first += part["count"]
        job.store.write(PARTS, json.dumps([asdict(part) for part in parts]).encode())

    def _refuse_useless(self, name: str, number: int, results: Sequence[dict[str, Any]]) -> None:
        """Raise InputError for a source that gave no text at all."""
        source = self._job.sources[number][1]
        if source.kind in ("jsonl", "parquet", "hf") and not any(result["seen"]["good"] for result in results):
            bad = next((result["seen"]["bad"] for result in results if result["seen"]["bad"]), None)
            if bad:
                raise nothing_of(source.text_key, Reject(**bad), {key for r in results for key in r["seen"]["keys"]})
        if not any(result["parts"] for result in results):
            reasons = sum((Counter(result["funnel"]["rejected"]) for result in results), Counter[str]())
            raise InputError(f"source {name!r}: no usable text ({why(reasons)})")

    def _finish(self, made_from: str, kept: dict[int, int]) -> Manifest:
        """Put together what the tasks came to."""
        job, directory, tokenizer = self._job, self._directory, tokenizer_of(self._job)
        sets = [HeldOutSet(**each) for each in job.result("sets", 0)["sets"]]
        self._write_rejects()
        return Manifest(
            made_from=made_from,
            tokenizer_file=TOKENIZER,
            tokenizer_sha256=write_synced(directory / TOKENIZER, job.store.read(TOKENIZER)),
            vocab_size=tokenizer.vocab_size,
            end_of_document=tokenizer.end_of_document,
            dtype=token_dtype(tokenizer.vocab_size).name,
            ngram=job.data.isolation.ngram,
            sources=self._sources(kept),
            holdouts=[
                HoldoutText(each.name, str(each.kind), *self._held_out(f"holdouts/{each.name}.bin", each.scored))
                for each in sets
                if each.kind
            ],
            funnel=self._funnel().to_dict(),
            isolated=[
                IsolatedText(each.name, *self._held_out(each.rest_file, each.rest)) for each in sets if each.rest
            ],
        )

    def _sources(self, kept: dict[int, int]) -> list[SourceText]:
        job = self._job
        shards: dict[str, list[Shard]] = {name: [] for name, _ in job.sources}
        for number, shard in enumerate(shards_of(job)):
            result = job.result("shards", number)
            if not (self._directory / result["file"]).exists():
                job.store.fetch(result["file"], self._directory / result["file"])
            shards[shard["source"]].append(Shard(**result))
        pieces = {number: int(result["pieces"]) for number, result in job.training_results("keep").items()}
        texts = []
        for name, source in job.sources:
            own = [number for number in kept if job.parts[number].source == name]
            documents, size = sum(pieces[number] for number in own), sum(kept[number] for number in own)
            tokens = sum(shard.tokens for shard in shards[name])
            licence = source.licence or LICENCES.get(source.kind)
            texts.append(SourceText(name, documents, size, tokens, source.weight, licence, shards[name]))
        return texts

    def _held_out(self, file: str, numbers: Sequence[int]) -> tuple[int, int, int, str, str]:
        """(documents, bytes of text, tokens without end-of-document, file, its sha256) of held-out text, written."""
        texts = list(texts_of(self._job, numbers))
        rows = encode_exactly(tokenizer_of(self._job), texts)
        digest = write_synced(self._directory / file, np.concatenate(rows).tobytes())
        return len(texts), sum(len(text.encode()) for text in texts), sum(row.size - 1 for row in rows), file, digest

    def _funnel(self) -> Funnel:
        job, funnel = self._job, Funnel()
        results = [job.result("given", 0), *job.results("read", len(job.plan.readings))]
        results += [*job.results("signatures", len(job.parts)), *job.training_results("keep").values()]
        for result in results:
            funnel.add(result["funnel"])
        return funnel

    def _write_rejects(self) -> None:
        """rejects.jsonl: every record that was not kept, in the order of the stages."""
        with (self._directory / REJECTS).open("wb") as handle:
            for name in self._reject_files():
                handle.writelines(Rows(self._job.store, f"rejects/{name}"))

    def _reject_files(self) -> Iterator[str]:
        parts = range(1, len(self._job.parts))
        yield "given"
        yield from (f"read-{number:06d}" for number in range(len(self._job.plan.readings)))
        yield from (f"copies-{number:06d}" for number in parts)
        yield from (f"keep-{number:06d}" for number in parts)
