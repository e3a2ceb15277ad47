"""[data]: where text comes from, what is kept, what is held out, how it is tokenised."""

import codecs
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tenfold.config.base import Section

EVERY_SOURCE = {"kind", "name", "weight", "max_documents", "licence"}
SOURCE_KEYS = {
    "python-stdlib": EVERY_SOURCE,
    "files": EVERY_SOURCE | {"paths", "encoding"},
    "jsonl": EVERY_SOURCE | {"paths", "text_key", "encoding"},
    "parquet": EVERY_SOURCE | {"paths", "text_key", "encoding"},
    "hf": EVERY_SOURCE | {"dataset", "subset", "split", "text_key"},
}
EVERY_HOLDOUT = {"name", "kind", "max_bytes"}
HOLDOUT_KEYS = {
    "split": EVERY_HOLDOUT | {"fraction"},
    "files": EVERY_HOLDOUT | {"paths", "encoding"},
    "jsonl": EVERY_HOLDOUT | {"paths", "text_key", "encoding"},
    "parquet": EVERY_HOLDOUT | {"paths", "text_key", "encoding"},
    "system-prose": EVERY_HOLDOUT,
    "tenfold-source": EVERY_HOLDOUT,
}


def _refuse_foreign_keys(what: str, kind: str, given: set[str], keys: Mapping[str, set[str]]) -> None:
    """A key that a kind does not read would be a wish silently ignored."""
    if foreign := sorted(given - keys[kind]):
        allowed = ", ".join(sorted(keys[kind] - {"kind"}))
        raise ValueError(f'a {what} of kind "{kind}" has no `{foreign[0]}`; it takes {allowed}')


class Source(Section):
    """[[data.sources]]: one place text comes from. Several sources make a mixture by weight."""

    kind: Literal["python-stdlib", "files", "jsonl", "parquet", "hf"]
    """python-stdlib: the running interpreter's own library; files: globs or folders of text; jsonl: JSON objects, one a
    line or in a list; parquet; hf: a Hugging Face data set (needs the extra `hf`). Files and JSON may be compressed:
    gzip, bzip2, xz, zstd, a zip of one file."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)] | None = None
    """Name in manifests, reports and file names: letters, digits, `.`, `_` and `-`. Default: the kind. Names that
    occur twice are numbered."""
    paths: list[str] = []
    """Files, folders or globs, relative to the campaign directory, or URLs such as s3://bucket/texts (files, jsonl,
    parquet). Of a folder, files takes everything but JSON records and parquet, jsonl and parquet what is of their kind
    and has the text under `text_key`, by what is in the files and not by their names; hidden files, caches, installed
    packages and what tenfold itself wrote are left out."""
    weight: Annotated[float, Field(gt=0)] | None = None
    """Share of the training tokens drawn from this source, relative to the other weights; for all sources or for
    none. Default: its size."""
    text_key: str = "text"
    """Key or column that holds the text (jsonl, parquet, hf)."""
    encoding: str | None = None
    """Encoding of the text, such as "utf-8", "cp1252" or "gb18030" (files, jsonl, parquet). Default: UTF-8, or what a
    byte order mark says, or what a detector makes of bytes that are not UTF-8."""
    dataset: str | None = None
    """Hugging Face data set, e.g. "HuggingFaceFW/fineweb-edu" (hf)."""
    subset: str | None = None
    """Configuration of the data set (hf)."""
    split: str = "train"
    """Split of the data set (hf)."""
    max_documents: Annotated[int, Field(gt=0)] | None = None
    """Stop after this many documents."""
    licence: str | None = None
    """Licence of the text, if known; carried into the manifest."""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "Source":
        if self.kind in ("files", "jsonl", "parquet") and not self.paths:
            raise ValueError(f'a source of kind "{self.kind}" needs `paths`')
        if self.kind == "hf" and not self.dataset:
            raise ValueError('a source of kind "hf" needs `dataset`')
        _refuse_foreign_keys("source", self.kind, self.model_fields_set, SOURCE_KEYS)
        return self

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        return known_encoding(name)


def known_encoding(name: str | None) -> str | None:
    """The encoding as Python names it. Raises ValueError for what is none of text."""
    try:
        if name is not None:
            bytes(4).decode(name)
    except (LookupError, ValueError):
        raise ValueError("no encoding of text that Python knows, such as utf-8, cp1252, shift_jis") from None
    return name and codecs.lookup(name).name


class Holdout(Section):
    """[[data.holdouts]]: text the model is judged on and never trained on."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    """Name in the report: lower-case letters, digits, _ and -."""
    kind: Literal["split", "files", "jsonl", "parquet", "system-prose", "tenfold-source"]
    """split: whole near-duplicate clusters taken from the sources; files, jsonl, parquet: an evaluation set
    given by you; system-prose: C headers, manual pages and prose found on this machine; tenfold-source:
    tenfold's own source code."""
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Share of the source documents to hold out (split)."""
    paths: list[str] = []
    """Files, folders or globs (files, jsonl, parquet)."""
    text_key: str = "text"
    """Key or column that holds the text (jsonl, parquet)."""
    encoding: str | None = None
    """Encoding of the text, as of a source (files, jsonl, parquet)."""
    max_bytes: Annotated[int, Field(ge=0)] = 1_000_000
    """Score at most this many bytes (0: all), whole documents, chosen by the seed, or the beginning of one where none
    fits. Of a given set the rest is not scored but kept out of training all the same. Each rung of the ladder scores as
    much as the target does in the end."""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "Holdout":
        if self.kind in ("files", "jsonl", "parquet") and not self.paths:
            raise ValueError(f'a holdout of kind "{self.kind}" needs `paths`')
        _refuse_foreign_keys("holdout", self.kind, self.model_fields_set, HOLDOUT_KEYS)
        return self

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        return known_encoding(name)


class Read(Section):
    """[data.read]: bounds of what one file may ask of this machine, and when a loss is warned of."""

    max_record_bytes: Annotated[int, Field(ge=1024)] = 33_554_432
    """Records that are longer, and texts that are longer and not cut, are left out: a record is held in memory."""
    max_expansion: Annotated[float, Field(ge=1)] = 200.0
    """A file is not read on once its text is this many times its size, and more than 16 MiB."""
    max_replaced: Annotated[float, Field(ge=0, le=1)] = 0.001
    """Share of a text's bytes that may be bad: those become U+FFFD and are counted. One always may; 0: none."""
    warn_lost: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Warn where more than this share of a source is lost, of its documents or of its bytes, with what to set."""


class Clean(Section):
    """[data.clean]: what a document must be to be kept."""

    min_bytes: Annotated[int, Field(ge=1)] = 64
    """Shorter documents are rejected (not those of evaluation sets)."""
    split_bytes: Annotated[int, Field(ge=0)] = 131_072
    """Longer texts are cut into documents of at most this size, at blank lines where there are some (0: never). A
    source of fewer than 20 text files is cut finer, so that there is something to hold out."""
    max_bytes: Annotated[int, Field(ge=1)] = 10_000_000
    """Documents that are longer after cutting are rejected (not those of evaluation sets)."""

    @model_validator(mode="after")
    def _ordered(self) -> "Clean":
        if self.min_bytes > self.max_bytes:
            raise ValueError(f"min_bytes ({self.min_bytes}) must not exceed max_bytes ({self.max_bytes})")
        return self


class Isolation(Section):
    """[data.isolation]: how near a training document may come to another one or to a holdout."""

    near_duplicate: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Documents whose word shingles overlap at least this much (Jaccard) are near-duplicates; one is kept."""
    ngram: Annotated[int, Field(ge=5)] = 13
    """Training text that shares a run of this many words with a holdout is contaminated and removed; of held-out
    texts that are shorter, a run of all their words."""


class TokenizerSettings(Section):
    """[data.tokenizer]: byte-level BPE trained on the training split, or a given one."""

    vocab_size: Annotated[int, Field(ge=257)] = 4096
    """Number of tokens, the 256 bytes and one end-of-document token included."""
    path: str | None = None
    """A tokenizer.json to use instead of training one (it must be byte-level)."""
    train_bytes: Annotated[int, Field(gt=0)] = 50_000_000
    """Train the tokenizer on at most this many bytes, documents chosen by the seed."""


class Data(Section):
    """[data]: sources, what is kept of them, what is held out, how text becomes tokens."""

    sources: Annotated[list[Source], Field(min_length=1)] = [Source(kind="python-stdlib")]
    """Where text comes from."""
    holdouts: list[Holdout] = [Holdout(name="iid", kind="split")]
    """What is kept out for judging."""
    read: Read = Read()
    clean: Clean = Clean()
    isolation: Isolation = Isolation()
    tokenizer: TokenizerSettings = TokenizerSettings()
    shard_tokens: Annotated[int, Field(ge=1024)] = 16_777_216
    """Tokens in one shard file."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that build the corpus on this machine (0: one a core). The corpus does not depend on it."""
    engine: Literal["local", "dask"] = "local"
    """What does the tasks of the build: local: processes of this machine; dask: the workers of a Dask scheduler (needs
    the extra `dask`). The corpus does not depend on it."""
    scheduler: str | None = None
    """Address of the Dask scheduler, e.g. "tcp://10.0.0.1:8786" (dask)."""
    work: str | None = None
    """Folder or fsspec URL (s3://bucket/prefix) for what the build is working on, about three times the text; it is
    deleted at the end. Workers on other machines must reach it. Default: beside the corpus."""

    @model_validator(mode="after")
    def _engine_has_what_it_needs(self) -> "Data":
        if (self.engine == "dask") != (self.scheduler is not None):
            raise ValueError('engine = "dask" needs `scheduler`, the address of one, and no other engine has it')
        return self

    @model_validator(mode="after")
    def _holdout_names_differ(self) -> "Data":
        names = [h.name for h in self.holdouts]
        if len(set(names)) < len(names):
            raise ValueError(f"holdout names must differ, got {names}")
        return self

    @model_validator(mode="after")
    def _all_weighted_or_none(self) -> "Data":
        without = [source.name or source.kind for source in self.sources if source.weight is None]
        if 0 < len(without) < len(self.sources):
            raise ValueError(f"sources: give all of them a weight or none; without one: {', '.join(without)}")
        return self


FIRST_KEYS: Mapping[str, frozenset[str]] = {
    "Data": frozenset({"sources", "holdouts", "clean", "isolation", "tokenizer", "shard_tokens"}),
    "Source": frozenset({"kind", "name", "paths", "weight", "text_key", "dataset", "subset", "split", "max_documents"})
    | {"licence"},
    "Holdout": frozenset({"name", "kind", "fraction", "paths", "text_key", "max_bytes"}),
    "Clean": frozenset({"min_bytes", "split_bytes", "max_bytes"}),
    "Isolation": frozenset({"near_duplicate", "ngram"}),
    "TokenizerSettings": frozenset({"vocab_size", "path", "train_bytes"}),
}
"""Keys of [data] when corpora were first given digests of it."""
HOW_KEYS: Mapping[str, frozenset[str]] = {"Data": frozenset({"workers", "engine", "scheduler", "work"})}
"""Keys that say how a corpus is built and change nothing of it: no digest has them."""


def digestible(section: Section) -> dict[str, Any]:
    """JSON values of a section for a digest: what it asks for, not how that is to be done.

    A key that came after the first digests is left out at its default.

    So a new key changes no digest of a campaign that does not set it.
    """
    how = HOW_KEYS.get(type(section).__name__, frozenset())
    first = FIRST_KEYS.get(type(section).__name__, frozenset())
    values: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if name in how:
            continue
        if name in first or value != field.get_default(call_default_factory=True):
            values[name] = _digestible_value(value)
    return values


def _digestible_value(value: Any) -> Any:
    if isinstance(value, Section):
        return digestible(value)
    return [_digestible_value(item) for item in value] if isinstance(value, list) else value
