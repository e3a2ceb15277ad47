"""From sources to a corpus on disk: read, clean, deduplicate, hold out, decontaminate, tokenise, write.

The corpus is built beside its place and moved there when it is whole, so a build that is killed leaves the old corpus
or none, and is simply done again.
"""

import json
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenfold.config import Data, Source, digestible
from tenfold.core import InputError, Progress, TenfoldError, digest_of
from tenfold.data.clean import Funnel, Reject
from tenfold.data.corpus import ShardWriter, token_dtype, write_synced
from tenfold.data.duplicates import Clusters, cluster_near_duplicates
from tenfold.data.holdouts import HeldOutSet, draw, read_sets, split_sets
from tenfold.data.ingest import DocumentStore, RejectLog, Report, ingest_sources, name_sources
from tenfold.data.inputs import Inputs, fingerprints, input_files
from tenfold.data.isolation import HeldOutText, decontaminate
from tenfold.data.manifest import MANIFEST, HoldoutText, IsolatedText, Manifest, SourceText, asked_for
from tenfold.data.paths import REJECTS, TOKENIZER, foreign_entry
from tenfold.data.sources import LICENCES
from tenfold.data.survey import survey
from tenfold.data.tokenizer import Tokenizer

ENCODE_BATCH = 256  # documents
Tokens = NDArray[np.unsignedinteger]


def write_source(
    directory: Path,
    name: str,
    source: Source,
    pieces: DocumentStore,
    tokenizer: Tokenizer,
    shard_tokens: int,
    report: Report,
) -> SourceText:
    """Shards of one source's documents."""
    numbers = list(pieces.of_source(name))
    writer = ShardWriter(directory, name, shard_tokens, token_dtype(tokenizer.vocab_size))
    tokens = size = 0
    for start in range(0, len(numbers), ENCODE_BATCH):
        report(Progress(f"tokenising {name}", start, len(numbers), "documents"))
        batch = numbers[start : start + ENCODE_BATCH]
        for row in encode_exactly(tokenizer, [pieces.text(number) for number in batch]):
            writer.append(row)
            tokens += row.size
        size += sum(map(pieces.size, batch))
    licence = source.licence or LICENCES.get(source.kind)
    return SourceText(name, len(numbers), size, tokens, source.weight, licence, writer.close())


def write_scored(directory: Path, held_out: HeldOutSet, store: DocumentStore, tokenizer: Tokenizer) -> HoldoutText:
    """What is scored of one holdout."""
    file = f"holdouts/{held_out.name}.bin"
    tokens, size, digest = _write(directory / file, held_out.scored, store, tokenizer)
    return HoldoutText(held_out.name, str(held_out.kind), len(held_out.scored), size, tokens, file, digest)


def write_isolated(directory: Path, held_out: HeldOutSet, store: DocumentStore, tokenizer: Tokenizer) -> IsolatedText:
    """What is kept out without being scored, so that the audit can look for it too."""
    file = held_out.rest_file
    tokens, size, digest = _write(directory / file, held_out.rest, store, tokenizer)
    return IsolatedText(held_out.name, len(held_out.rest), size, tokens, file, digest)


def _write(path: Path, numbers: Sequence[int], store: DocumentStore, tokenizer: Tokenizer) -> tuple[int, int, str]:
    """(tokens without end-of-document, bytes of text, sha256 of the file)."""
    rows = encode_exactly(tokenizer, [store.text(number) for number in numbers])
    digest = write_synced(path, np.concatenate(rows).tobytes())
    return sum(row.size - 1 for row in rows), sum(map(store.size, numbers)), digest


def encode_exactly(tokenizer: Tokenizer, texts: list[str]) -> list[Tokens]:
    """Tokens of each text and an end-of-document.

    Raises InputError when their bytes are not the text's (a given tokenizer may lose some).
    """
    rows = []
    dtype, lengths = token_dtype(tokenizer.vocab_size), tokenizer.byte_lengths
    for text, tokens in zip(texts, tokenizer.encode_batch(texts), strict=True):
        row = np.asarray([*tokens, tokenizer.end_of_document], dtype=dtype)
        size, kept = len(text.encode()), int(lengths[row].sum())
        if kept != size:
            raise InputError(
                f"data.tokenizer.path: this tokenizer does not keep every byte ({text[:40]!r} has {size} bytes, its "
                f"tokens {kept}); use a byte-level one without normalisation"
            )
        rows.append(row)
    return rows


FORMAT = 1
"""Raised by whoever changes which corpus a configuration gives: then older corpora are built again. Else the code may
change and they stand."""
LIBRARIES = ("datasketch", "numpy", "tokenizers")  # whose version may change what is built


def build_corpus(
    data: Data, seed: int, directory: Path, base: Path, report: Report, keep: Path | None = None
) -> Manifest:
    """Build the corpus of `data` in `directory`; paths in `data` are relative to `base`. No-op if nothing changed.

    The corpus that was there before goes to `keep`, or is deleted.

    Raises InputError when a source, holdout or tokenizer is unusable or `directory` holds anything but a corpus,
    TenfoldError when the disk refuses.
    """
    building, old = directory.with_name(f".{directory.name}.building"), _old(directory)
    if old.exists() and directory.exists():  # killed just after the last build
        shutil.rmtree(old, ignore_errors=True)
    try:
        made_from = _made_from(data, seed, base)
        if (directory / MANIFEST).exists():
            manifest = Manifest.load(directory)
            if manifest.made_from == made_from:
                return manifest
            if _is_of_before(manifest, directory, data, seed, base):
                report(Progress("kept, as an earlier tenfold built it from the same text", 0, None, ""))
                return manifest
        _refuse_foreign(directory)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        with (building / REJECTS).open("w", encoding="utf-8") as rejects, DocumentStore(building / "work") as store:
            manifest = _Build(data, seed, base, building, store, RejectLog(rejects), report).run(made_from)
        manifest = replace(manifest, asked_for=asked_for(data, seed), inputs=Inputs.of(data, base).to_dict())
        shutil.rmtree(building / "work")
        write_synced(building / MANIFEST, json.dumps(manifest.to_dict(), indent=1, sort_keys=True).encode())
        _move_into_place(building, directory, keep)
    except OSError as error:
        raise _explain(error, directory) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
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
    if error.filename and not Path(str(error.filename)).is_relative_to(
        directory.parent / f".{directory.name}.building"
    ):
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
    return f"{FORMAT}:{digest_of([digestible(data), seed, libraries, inputs])}"


def _is_of_before(manifest: Manifest, directory: Path, data: Data, seed: int, base: Path) -> bool:
    """Whether a corpus that was built before there were formats, of format 1 then, is what is asked for now.

    It says not of which files it was made, but those that changed since are newer than its manifest.
    """
    if ":" in manifest.made_from or FORMAT != 1 or manifest.asked_for != asked_for(data, seed):
        return False
    built = (directory / MANIFEST).stat().st_mtime_ns
    return all(int(file.stamp) <= built for files in input_files(data, base).values() for file in files)


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
        for file in survey(self.sources, self.base):
            self.funnel.count(file)
            self.rejects.add(file)
        sets = read_sets(self.data.holdouts, self.base, self.seed, self.store, self._reject_holdout)
        first_training = len(self.store)
        ingest_sources(self.sources, self.data, self.base, self.store, self.funnel, self.rejects, self.report)
        clusters = self._cluster()
        sets = split_sets(self.data.holdouts, sets, self.store, clusters, self.seed)
        kept = self._drop_copies(clusters, sets, first_training)
        with DocumentStore(self.directory / "work" / "pieces", with_words=False) as pieces:
            self._decontaminate(kept, sets, pieces)
            return self._write(pieces, sets, made_from)

    def _reject_holdout(self, reject: Reject) -> None:
        self.rejects.add(reject)
        self.funnel.holdout_rejected[reject.reason] = self.funnel.holdout_rejected.get(reject.reason, 0) + 1

    def _cluster(self) -> Clusters:
        count = len(self.store)
        return cluster_near_duplicates(
            (self.store.words(number) for number in range(count)),
            count,
            self.data.isolation.near_duplicate,
            lambda done: self.report(Progress("finding near-duplicates", done, count, "documents")),
        )

    def _drop_copies(self, clusters: Clusters, sets: Sequence[HeldOutSet], first: int) -> list[int]:
        """Training documents: one of each cluster, none of a cluster that has a held-out document."""
        holdout_of = {number: each.name for each in sets for number in each.numbers}
        kept = []
        for number in range(first, len(self.store)):
            representative, size = clusters.find(number), self.store.size(number)
            if number in holdout_of or representative in holdout_of:
                self.funnel.held_out += 1
                self.funnel.held_out_bytes += size
                if number not in holdout_of:
                    self._reject(number, "near-copy-of-holdout", holdout_of[representative])
            elif representative != number:
                self.funnel.near_duplicates += 1
                self.funnel.near_duplicates_bytes += size
                self._reject(number, "near-duplicate", self.store.where[representative])
            else:
                kept.append(number)
        return kept

    def _reject(self, number: int, reason: str, detail: str = "") -> None:
        store = self.store
        self.rejects.add(Reject(store.sources[number], store.where[number], reason, detail, store.size(number)))

    def _decontaminate(self, kept: Sequence[int], sets: Sequence[HeldOutSet], pieces: DocumentStore) -> None:
        """Lay into `pieces` what the holdouts leave of each document."""
        numbers = [number for each in sets for number in each.scored]
        numbers += [number for each in sets for number in each.rest]
        held_out = HeldOutText([self.store.words(number) for number in numbers], self.data.isolation.ngram)
        for done, number in enumerate(kept):
            self.report(Progress("decontaminating", done, len(kept), "documents"))
            size = self.store.size(number)
            least = min(size, self.data.clean.min_bytes)
            result = decontaminate(self.store.text(number), self.store.words(number), held_out, least)
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

    def _write(self, pieces: DocumentStore, sets: Sequence[HeldOutSet], made_from: str) -> Manifest:
        tokenizer = self._tokenizer(pieces)
        digest = write_synced(self.directory / TOKENIZER, tokenizer.to_json().encode())
        return Manifest(
            made_from=made_from,
            tokenizer_file=TOKENIZER,
            tokenizer_sha256=digest,
            vocab_size=tokenizer.vocab_size,
            end_of_document=tokenizer.end_of_document,
            dtype=token_dtype(tokenizer.vocab_size).name,
            ngram=self.data.isolation.ngram,
            sources=[
                write_source(self.directory, name, source, pieces, tokenizer, self.data.shard_tokens, self.report)
                for name, source in self.sources
            ],
            holdouts=[write_scored(self.directory, each, self.store, tokenizer) for each in sets if each.kind],
            funnel=asdict(self.funnel),
            isolated=[write_isolated(self.directory, each, self.store, tokenizer) for each in sets if each.rest],
        )

    def _tokenizer(self, pieces: DocumentStore) -> Tokenizer:
        settings = self.data.tokenizer
        if settings.path:
            return Tokenizer.load(self.base / settings.path)
        if not len(pieces):
            raise InputError("no training text is left after removing duplicates and held-out text; give more text")
        return Tokenizer.train(self._sample(pieces), settings.vocab_size, self.report)

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
