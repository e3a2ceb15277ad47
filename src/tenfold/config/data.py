"""[data]: where text comes from, what is kept, what is held out, how it is tokenised."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tenfold.config.base import Section


class Source(Section):
    """[[data.sources]]: one place text comes from. Several sources make a mixture by weight."""

    kind: Literal["python-stdlib", "files", "jsonl", "parquet", "hf"]
    """python-stdlib: the running interpreter's own library; files: globs or folders of text; jsonl: one
    JSON object a line (plain, .gz, .zst); parquet; hf: a Hugging Face data set (needs the extra `hf`)."""
    name: str | None = None
    """Name in manifests and reports. Default: the kind, numbered if it occurs twice."""
    paths: list[str] = []
    """Files, folders or globs, relative to the campaign directory (files, jsonl, parquet)."""
    weight: Annotated[float, Field(gt=0)] | None = None
    """Share of the training tokens drawn from this source, relative to the other weights. Default: its size."""
    text_key: str = "text"
    """Key or column that holds the text (jsonl, parquet, hf)."""
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
        return self


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
    max_bytes: Annotated[int, Field(gt=0)] | None = 1_000_000
    """Keep at most this many bytes, whole documents, chosen by the seed."""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "Holdout":
        if self.kind in ("files", "jsonl", "parquet") and not self.paths:
            raise ValueError(f'a holdout of kind "{self.kind}" needs `paths`')
        return self


class Clean(Section):
    """[data.clean]: what a document must be to be kept."""

    min_bytes: Annotated[int, Field(ge=1)] = 64
    """Shorter documents are rejected."""
    max_bytes: Annotated[int, Field(ge=1)] = 10_000_000
    """Longer documents are rejected."""

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
    """Training text that shares a run of this many words with a holdout is contaminated and removed."""


class Tokenizer(Section):
    """[data.tokenizer]: byte-level BPE trained on the training split, or a given one."""

    vocab_size: Annotated[int, Field(ge=257)] = 4096
    """Number of tokens, the 256 bytes and one end-of-document token included."""
    path: str | None = None
    """A tokenizer.json to use instead of training one (it must be byte-level)."""
    train_bytes: Annotated[int, Field(gt=0)] = 50_000_000
    """Train the tokenizer on at most this many bytes, documents chosen by the seed."""


class Data(Section):
    """[data]: the corpus."""

    sources: Annotated[list[Source], Field(min_length=1)] = [Source(kind="python-stdlib")]
    """Where text comes from."""
    holdouts: list[Holdout] = [Holdout(name="iid", kind="split")]
    """What is kept out for judging."""
    clean: Clean = Clean()
    isolation: Isolation = Isolation()
    tokenizer: Tokenizer = Tokenizer()
    shard_tokens: Annotated[int, Field(ge=1024)] = 16_777_216
    """Tokens in one shard file."""

    @model_validator(mode="after")
    def _holdout_names_differ(self) -> "Data":
        names = [h.name for h in self.holdouts]
        if len(set(names)) < len(names):
            raise ValueError(f"holdout names must differ, got {names}")
        return self
