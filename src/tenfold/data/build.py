"""From sources to a corpus on disk: read, clean, deduplicate, hold out, decontaminate, tokenise, write.

The corpus is built beside its place and moved there when it is whole, so a build that is killed leaves the old corpus
or none, and is simply done again.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tenfold.config import Data, Source
from tenfold.data.decontaminate import HoldoutRuns, decontaminate
from tenfold.data.duplicates import Clusters, cluster_near_duplicates
from tenfold.data.holdouts import choose_split, draw, read_holdout
from tenfold.data.ingest import RejectLog, Report, ingest_holdouts, ingest_sources, name_sources
from tenfold.data.manifest import MANIFEST, HoldoutText, Manifest, SourceText
from tenfold.data.records import Funnel, Progress, Reject
from tenfold.data.shards import ShardWriter, token_dtype, write_synced
from tenfold.data.sources import fingerprint_source
from tenfold.data.store import DocumentStore
from tenfold.data.tokenizer import Tokenizer
from tenfold.errors import InputError, TenfoldError

REJECTS = "rejects.jsonl"
TOKENIZER = "tokenizer.json"
ENCODE_BATCH = 256  # documents


def build_corpus(data: Data, seed: int, directory: Path, base: Path, report: Report) -> Manifest:
    """Build the corpus of `data` in `directory`; paths in `data` are relative to `base`. No-op if nothing changed.

    Raises InputError when a source, holdout or tokenizer is unusable, TenfoldError when the disk refuses.
    """
    made_from = _made_from(data, seed, base)
    if (directory / MANIFEST).exists() and (manifest := Manifest.load(directory)).made_from == made_from:
        return manifest
    building = directory.with_name(f".{directory.name}.building")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        with (building / REJECTS).open("w", encoding="utf-8") as rejects, DocumentStore(building / "work") as store:
            manifest = _Build(data, seed, base, building, store, RejectLog(rejects), report).run(made_from)
        shutil.rmtree(building / "work")
        write_synced(building / MANIFEST, json.dumps(manifest.to_dict(), indent=1, sort_keys=True).encode())
        _move_into_place(building, directory)
    except OSError as error:
        raise TenfoldError(
            f"{directory}: the corpus could not be written ({error.strerror}); make room or choose another directory, "
            "then run again"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


def _move_into_place(building: Path, directory: Path) -> None:
    old = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    building.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def _made_from(data: Data, seed: int, base: Path) -> str:
    """Hash of everything the corpus is a function of; of files on disk their names, sizes and times."""
    code = sorted((path.name, path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("*.py"))
    inputs = [fingerprint_source(source, name, base) for name, source in name_sources(data.sources)]
    for holdout in data.holdouts:
        if holdout.paths:
            like_source = Source(kind="files", paths=holdout.paths)
            inputs.append(fingerprint_source(like_source, holdout.name, base))
    if data.tokenizer.path:
        inputs.append(fingerprint_source(Source(kind="files", paths=[data.tokenizer.path]), "tokenizer", base))
    value = [data.model_dump(mode="json"), seed, code, inputs]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class _Build:
    """One build while it goes on."""

    def __init__(
        self,
        data: Data,
        seed: int,
        base: Path,
        directory: Path,
        store: DocumentStore,
        rejects: RejectLog,
        report: Report,
    ) -> None:
        self.data, self.seed, self.base, self.directory = data, seed, base, directory
        self.store, self.rejects, self.report = store, rejects, report
        self.funnel = Funnel()
        self.sources = name_sources(data.sources)

    def run(self, made_from: str) -> Manifest:
        """All stages in order; returns the manifest, not yet written."""
        given = {
            holdout.name: read_holdout(holdout, self.data.clean, self.base, self.seed)
            for holdout in self.data.holdouts
            if holdout.kind != "split"
        }
        held_out = ingest_holdouts(given, self.store)
        first_training = len(self.store)
        ingest_sources(self.sources, self.data.clean, self.base, self.store, self.funnel, self.rejects, self.report)
        self.funnel.rejected = {
            reason: count for reason, count in self.rejects.counts.items() if reason != "exact-duplicate"
        }
        clusters = self._cluster()
        for holdout in self.data.holdouts:
            if holdout.kind == "split":
                taken = {number for numbers in held_out.values() for number in numbers}
                held_out[holdout.name] = choose_split(holdout, self.store, clusters, taken, self.seed)
        kept = self._drop_copies(clusters, held_out, first_training)
        with DocumentStore(self.directory / "work" / "pieces") as pieces:
            self._decontaminate(kept, held_out, pieces)
            return self._write(pieces, held_out, made_from)

    def _cluster(self) -> Clusters:
        count = len(self.store)
        return cluster_near_duplicates(
            (self.store.words(number) for number in range(count)),
            count,
            self.data.isolation.near_duplicate,
            lambda done: self.report(Progress("finding near-duplicates", done, count, "documents")),
        )

    def _drop_copies(self, clusters: Clusters, held_out: dict[str, list[int]], first: int) -> list[int]:
        """Training documents: one of each cluster, none of a cluster that has a held-out document."""
        holdout_of = {number: name for name, numbers in held_out.items() for number in numbers}
        kept = []
        for number in range(first, len(self.store)):
            representative = clusters.find(number)
            if number in holdout_of:
                self.funnel.held_out += 1
            elif representative in holdout_of:
                self.funnel.held_out += 1
                self._reject(number, "near-copy-of-holdout", holdout_of[representative])
            elif representative != number:
                self.funnel.near_duplicates += 1
                self._reject(number, "near-duplicate", self.store.where[representative])
            else:
                kept.append(number)
        return kept

    def _reject(self, number: int, reason: str, detail: str = "") -> None:
        self.rejects.add(Reject(self.store.sources[number], self.store.where[number], reason, detail))

    def _decontaminate(self, kept: Sequence[int], held_out: dict[str, list[int]], pieces: DocumentStore) -> None:
        """Lay into `pieces` what the holdouts leave of each document."""
        numbers = [number for each in held_out.values() for number in each]
        runs = HoldoutRuns((self.store.words(number) for number in numbers), self.data.isolation.ngram)
        for done, number in enumerate(kept):
            self.report(Progress("decontaminating", done, len(kept), "documents"))
            size = self.store.size(number)
            result = decontaminate(
                self.store.text(number), self.store.words(number), runs, min(size, self.data.clean.min_bytes)
            )
            left = sum(len(piece.encode()) for piece in result.pieces)
            self.funnel.contaminated += result.touched
            self.funnel.contaminated_bytes += size - left
            if not result.pieces:
                self.funnel.dropped_after_decontamination += 1
                self._reject(number, "contaminated")
                continue
            self.funnel.documents_kept += 1
            self.funnel.bytes_kept += left
            for piece in result.pieces:
                pieces.append(self.store.sources[number], self.store.where[number], piece)

    def _write(self, pieces: DocumentStore, held_out: dict[str, list[int]], made_from: str) -> Manifest:
        tokenizer = self._tokenizer(pieces)
        digest = write_synced(self.directory / TOKENIZER, tokenizer.to_json().encode())
        dtype = token_dtype(tokenizer.vocab_size)
        return Manifest(
            made_from=made_from,
            tokenizer_file=TOKENIZER,
            tokenizer_sha256=digest,
            vocab_size=tokenizer.vocab_size,
            end_of_document=tokenizer.end_of_document,
            dtype=dtype.name,
            ngram=self.data.isolation.ngram,
            sources=[self._write_source(name, source, pieces, tokenizer) for name, source in self.sources],
            holdouts=[
                self._write_holdout(holdout.name, holdout.kind, held_out[holdout.name], tokenizer)
                for holdout in self.data.holdouts
            ],
            funnel=asdict(self.funnel),
        )

    def _tokenizer(self, pieces: DocumentStore) -> Tokenizer:
        settings = self.data.tokenizer
        if settings.path:
            return Tokenizer.load(self.base / settings.path)
        if not len(pieces):
            raise InputError("no training text is left after removing duplicates and held-out text; give more text")
        self.report(Progress("training the tokenizer", 0, None, "bytes"))
        return Tokenizer.train(self._sample(pieces), settings.vocab_size)

    def _sample(self, pieces: DocumentStore) -> Iterator[str]:
        """Text to train the tokenizer on: all of it, or documents chosen by the seed."""
        limit = self.data.tokenizer.train_bytes
        order: Iterable[int] = range(len(pieces))
        if sum(pieces.size(number) for number in order) > limit:
            order = sorted(order, key=lambda number: draw(self.seed, pieces.text(number)))
        total = 0
        for number in order:
            if total and total + pieces.size(number) > limit:
                return
            total += pieces.size(number)
            yield pieces.text(number)

    def _write_source(self, name: str, source: Source, pieces: DocumentStore, tokenizer: Tokenizer) -> SourceText:
        numbers = list(pieces.of_source(name))
        writer = ShardWriter(self.directory, name, self.data.shard_tokens, token_dtype(tokenizer.vocab_size))
        tokens = size = 0
        for start in range(0, len(numbers), ENCODE_BATCH):
            self.report(Progress(f"tokenising {name}", start, len(numbers), "documents"))
            texts = [pieces.text(number) for number in numbers[start : start + ENCODE_BATCH]]
            for text, encoded in zip(texts, encode_exactly(tokenizer, texts), strict=True):
                writer.append([*encoded, tokenizer.end_of_document])
                tokens += len(encoded) + 1
                size += len(text.encode())
        return SourceText(name, len(numbers), size, tokens, source.weight, source.licence, writer.close())

    def _write_holdout(self, name: str, kind: str, numbers: Sequence[int], tokenizer: Tokenizer) -> HoldoutText:
        texts = [self.store.text(number) for number in numbers]
        encoded = encode_exactly(tokenizer, texts)
        row = [token for tokens in encoded for token in (*tokens, tokenizer.end_of_document)]
        file = f"holdouts/{name}.bin"
        content = np.asarray(row, dtype=token_dtype(tokenizer.vocab_size)).tobytes()
        digest = write_synced(self.directory / file, content)
        size = sum(len(text.encode()) for text in texts)
        return HoldoutText(name, kind, len(texts), size, len(row) - len(texts), file, digest)


def encode_exactly(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Tokens of each text. Raises InputError when their bytes are not the text's (a given tokenizer may lose some)."""
    encoded = tokenizer.encode_batch(texts)
    lengths = tokenizer.byte_lengths
    for text, tokens in zip(texts, encoded, strict=True):
        size = len(text.encode())
        if int(lengths[tokens].sum()) != size:
            raise InputError(
                f"data.tokenizer.path: this tokenizer does not keep every byte ({text[:40]!r} has {size} bytes, its "
                f"tokens {int(lengths[tokens].sum())}); use a byte-level one without normalisation"
            )
    return encoded
