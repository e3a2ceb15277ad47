"""The stages of a build in order, how each is cut into tasks, and what they come to in the end: the manifest."""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.config import HOW_KEYS, Data
from tenfold.core import LOGGER, InputError, Progress, byte_size, digest_of
from tenfold.data.clean import Funnel, Reject
from tenfold.data.corpus import token_dtype, write_synced
from tenfold.data.holdouts import HeldOutSet
from tenfold.data.ingest import Report, why
from tenfold.data.manifest import COMMON, CommonText, HoldoutText, IsolatedText, Manifest, Shard, SourceText
from tenfold.data.paths import REJECTS, TOKENIZER
from tenfold.data.sources import LICENCES, source_files, source_reader, unusable
from tenfold.data.tasks.common import PLACES
from tenfold.data.tasks.engine import Engine, ThisProcess
from tenfold.data.tasks.job import PARTS, BuildJob, BuildPlan, DocumentPart, Reading
from tenfold.data.tasks.keep import texts_of
from tenfold.data.tasks.read import group_files
from tenfold.data.tasks.record import STAGES, write_record
from tenfold.data.tasks.tables import Rows, read_array
from tenfold.data.tasks.write import encode_exactly, encoder_of, shards_of, tokenizer_of

PART_BYTES = 8 << 20
"""Text of one part, at least; larger corpora have larger parts, so that there are some thousands of them at most."""
MOST_PARTS = 2048
LARGEST_PART = 256 << 20
BUCKET_BYTES = 512 << 20
"""Text whose hashes are merged at once: about a tenth of that in memory for documents of 4 kB."""
DURABLE_BYTES = 64 << 20
"""Text whose build goes on after a power cut too, and not only after a kill."""
SHARED = {"read", "copies", "signatures", "bands", "count", "keep", "tokenise", "shards"}
"""Stages of many tasks; those of one are done by the process that leads, which alone reads the holdouts."""
LONE_READER = 1.5
"""How many times longer than side by side reading takes, from which on it is said."""
WORK_FORMAT = 3
"""Raised by whoever changes what tasks write: then a build that another version began is begun anew."""


def plan_build(data: Data, seed: int, base: Path, made_from: str) -> BuildPlan:
    """How the work is cut. It depends on the sources alone, so that a build goes on under another engine."""
    files = [source_files(source, base) for source in data.sources]
    total = sum(file.size for own in files for file in own)
    part_bytes = min(LARGEST_PART, max(PART_BYTES, total // MOST_PARTS))
    readings: list[Reading] = []
    for number, (source, own) in enumerate(zip(data.sources, files, strict=True)):
        split_bytes = source_reader(source, "", base, data.read, data.clean, own).split_bytes
        if source.max_documents or source.kind == "hf":  # one after the other: where to stop depends on all before
            readings.append(Reading(number, own, split_bytes))
        else:
            readings += group_files(own, number, part_bytes, split_bytes)
    cut = [part_bytes, total // BUCKET_BYTES + 1, [asdict(each) for each in readings]]
    durable = total > DURABLE_BYTES
    return BuildPlan(
        token=digest_of([made_from, version("tenfold"), WORK_FORMAT, cut, None if durable else _boot()]),
        data=data.model_dump(mode="json", exclude_unset=True, exclude=set(HOW_KEYS["Data"])),
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


class Build:
    """One build while it goes on: its stages in order."""

    def __init__(self, job: BuildJob, engine: Engine, directory: Path, report: Report) -> None:
        self._job, self._engine, self._directory, self._report = job, engine, directory, report
        job.report = report
        self._bytes = sum(reading.bytes for reading in job.plan.readings)
        """Text of the sources, as it is stored until it is read."""
        self._sizes: dict[str, dict[int, int]] = {}
        """Bytes of text of each task, by stage."""

    def run(self, made_from: str) -> Manifest:
        """All stages in order; returns the manifest, not yet written."""
        self._read()
        job, buckets = self._job, dict.fromkeys(range(self._job.plan.buckets), 0)
        everything = {number: part.bytes for number, part in enumerate(job.parts)}
        training = {number: size for number, size in everything.items() if number}
        self._bytes = sum(training.values())
        self._stage("copies", buckets)
        self._stage("frames")
        self._stage("signatures", everything)
        if job.data.isolation.near_duplicate < 1:
            self._stage("bands", buckets)
        self._stage("clusters")
        self._stage("sets")
        self._stage("count", training)
        self._stage("common")
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
        self._sizes[name] = sizes
        finished = self._job.finished(name)
        progress = _StageProgress(STAGES[name], sizes, self._report)
        for number in sorted(finished & set(sizes)):
            progress.done(number)
        left = [number for number in sizes if number not in finished]
        engine = self._engine if name in SHARED and self._bytes >= self._engine.least_bytes else ThisProcess()
        engine.run(self._job.store.address, self._job.plan.token, name, left, progress)

    def _read(self) -> None:
        """Read everything, and number the documents once it is known how many there are."""
        job, readings = self._job, self._job.plan.readings
        self._stage("given")
        self._say_who_reads_alone()
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
            parts.append(DocumentPart(part["name"], source, first, part["count"], part["bytes"]))
            first += part["count"]
        job.store.write(PARTS, json.dumps([asdict(part) for part in parts]).encode())

    def _say_who_reads_alone(self) -> None:
        """A line where most workers will wait for the one that reads a large file, since a file is read by one."""
        workers = self._engine.workers if self._bytes >= self._engine.least_bytes else 1
        files = [file for reading in self._job.plan.readings for file in reading.files]
        largest = max(files, key=lambda file: file.size, default=None)
        if largest and largest.size * workers > LONE_READER * self._bytes:
            logging.getLogger(LOGGER).info(
                "data: %s (%s of %s) is read by one of %d workers alone; several smaller files are read side by side",
                largest.shown(self._job.base),
                byte_size(largest.size),
                byte_size(self._bytes),
                workers,
            )

    def _refuse_useless(self, name: str, number: int, results: Sequence[dict[str, Any]]) -> None:
        """Raise InputError for a source that gave no text at all."""
        source = self._job.sources[number][1]
        if source.kind in ("jsonl", "parquet", "hf") and not any(result["seen"]["good"] for result in results):
            bad = next((result["seen"]["bad"] for result in results if result["seen"]["bad"]), None)
            if bad:
                keys = sorted({key for result in results for key in result["seen"]["keys"]})
                raise InputError(unusable(Reject(**bad), source.text_key, keys))
        if not any(result["parts"] for result in results):
            reasons = sum((Counter(result["funnel"]["rejected"]) for result in results), Counter[str]())
            raise InputError(f"source {name!r}: no usable text ({why(reasons)})")

    def _finish(self, made_from: str, kept: dict[int, int]) -> Manifest:
        """Put together what the tasks came to."""
        job, directory, tokenizer = self._job, self._directory, tokenizer_of(self._job)
        sets = [HeldOutSet(**each) for each in job.result("sets", 0)["sets"]]
        self._write_rejects()
        write_record(directory, job, self._sizes)
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
            common=self._common(),
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
        rows = encode_exactly(tokenizer_of(self._job), encoder_of(self._job), texts)
        digest = write_synced(self._directory / file, np.concatenate(rows).tobytes())
        return len(texts), sum(len(text.encode()) for text in texts), sum(row.size - 1 for row in rows), file, digest

    def _common(self) -> CommonText:
        """What the holdouts share with many training documents, written for the audit."""
        found = self._job.result("common", 0)
        digest = write_synced(self._directory / COMMON, read_array(self._job.store, PLACES).tobytes())
        return CommonText(COMMON, digest, found["windows"], found["documents"])

    def _funnel(self) -> Funnel:
        job, funnel = self._job, Funnel()
        results = [job.result("given", 0), *job.results("read", len(job.plan.readings))]
        results += [*job.results("signatures", len(job.parts)), *job.training_results("keep").values()]
        for result in results:
            funnel.add(Funnel(**result["funnel"]))
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
