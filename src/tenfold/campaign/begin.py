"""A new campaign: its campaign.toml written from an example, for text of one's own, or after another campaign."""

import tomllib
import unicodedata
from pathlib import Path
from typing import Any

from tenfold.config import FILE_NAME, Data, example_values, load_campaign, read_text, render_campaign
from tenfold.core import InputError, byte_size
from tenfold.data import estimated_text_bytes, sources_of


def init_campaign(directory: Path, example: str, data: str | None, like: Path | None = None) -> dict[str, str]:
    """Write `directory/campaign.toml`, with the settings of an example, or of the campaign in `like`.

    Returns where it is (`wrote`), what was fitted to the text (`fitted`), and what to do next. Raises InputError when
    one is there, when `data` or `like` does not exist.
    """
    path = directory / FILE_NAME
    if path.exists():
        raise InputError(f"{path}: exists already; choose another directory or delete it")
    _refuse_unwritable("directory", directory.resolve().name)
    if like is not None and data is not None:
        raise InputError("--like takes [data] from that campaign; leave out --data, or set data.sources afterwards")
    values = example_values(example) if like is None else _values_of(like)
    values["name"] = directory.resolve().name
    fitted = ""
    if data is not None:
        _refuse_unwritable("--data", data)
        if Path(data).resolve() == (directory / "data").resolve():
            raise InputError(f"--data {data}: the corpus will be written there; rename your folder, then name it so")
        fitted = _fit_to_own_text(values, data)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(render_campaign(values, f"{values['name']}: made by tenfold init"), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{directory}: cannot write here ({error.strerror})") from error
    return {"wrote": str(path)} | ({"fitted": fitted} if fitted else {}) | {"next": f"tenfold run {directory}"}


def _refuse_unwritable(what: str, name: str) -> None:
    """A file of text cannot hold every name that a file system allows."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise InputError(f"{what} {name!r}: control characters or bytes that are not UTF-8 in the name; rename it")


def _values_of(campaign: Path) -> dict[str, Any]:
    """What another campaign sets, its relative paths made absolute. Raises InputError when it cannot be read."""
    load_campaign(campaign)  # says what is wrong with it, if anything is
    values = tomllib.loads(read_text(campaign / FILE_NAME, ""))
    data = values.get("data", {})
    for item in [*data.get("sources", []), *data.get("holdouts", [])]:
        if "paths" in item:
            item["paths"] = [str((campaign / path).absolute()) for path in item["paths"]]
    if path := data.get("tokenizer", {}).get("path"):
        data["tokenizer"]["path"] = str((campaign / path).absolute())
    url = values.get("checkpoint", {}).get("url", "")
    if "://" in url or Path(url).is_absolute():  # else the new campaign would find the checkpoints of the other
        del values["checkpoint"]["url"]
    return values


def _fit_to_own_text(values: dict[str, Any], data: str) -> str:
    """The user's text in place of the example's, judged on a part of it alone, and none of the demonstration.

    A larger share is held out than the example does: a small folder must still leave something to judge on. Returns
    what was fitted to the size of the text.
    """
    split = [holdout | {"fraction": 0.05} for holdout in values["data"]["holdouts"] if holdout["kind"] == "split"]
    values["data"] |= {"sources": sources_of(data), "holdouts": split}
    for demonstration in ("learners", "chaos"):  # learners of which one is killed: not what own data is for
        values.pop(demonstration, None)
    return _fit_to_size(values, estimated_text_bytes(Data.model_validate(values["data"]), Path()))


BYTES_PER_TOKEN = 2.8  # about, at a vocabulary of 1,024
MOST_EPOCHS, FEW_EPOCHS = 8, 2
STRONG_DECAY, SOME_DECAY = 4.0, 1.0
"""Weight decay where text is repeated: of 0.1, 1 and 4 the best on corpora of 32 and 128 kB of Python source
(`benchmarks/small_corpora.py`), in line with Lovelace et al., arXiv 2605.01640, for whom the best one where text is
repeated is ten times the usual."""
SMALL_VOCABULARY = 512
SMALL_TEXT = 64_000  # bytes, below which a vocabulary of 1,024 leaves too few tokens
FEWEST_STEPS = 40  # fewer would not be a schedule; the batch is made smaller for it
FEWEST_STEPS_WITH_LADDER = 400  # a tenth of its compute and less must still be runs of some steps
EVALUATIONS = 10


def _fit_to_size(values: dict[str, Any], size: int) -> str:
    """Tokens, weight decay and what is watched, so that a small corpus is not learned by heart. Returns it in words."""
    train = values["train"]
    distinct = size * (1 - 0.05) / BYTES_PER_TOKEN
    epochs = train["tokens"] / max(distinct, 1)
    said = f"about {byte_size(size)} of text, {epochs:.2g} epochs"
    if epochs <= FEW_EPOCHS:
        return said
    context, wanted = values["model"]["context"], min(train["tokens"], MOST_EPOCHS * distinct)
    batch = min(train["batch_tokens"], max(context, int(wanted / FEWEST_STEPS / context) * context))
    steps = max(EVALUATIONS, int(wanted / batch))
    train |= {"tokens": steps * batch, "batch_tokens": batch, "log_every": max(1, steps // 20)}
    train.setdefault("optimizer", {})["weight_decay"] = STRONG_DECAY if epochs > MOST_EPOCHS else SOME_DECAY
    values["checkpoint"] = values.get("checkpoint", {}) | {"keep_best": values["data"]["holdouts"][0]["name"]}
    values.setdefault("evaluate", {})["every"] = steps // EVALUATIONS
    if size < SMALL_TEXT:
        values["data"]["tokenizer"]["vocab_size"] = SMALL_VOCABULARY
    if epochs > MOST_EPOCHS:
        values["data"]["holdouts"][0]["fraction"] = 0.1
    if steps < FEWEST_STEPS_WITH_LADDER:
        values["ladder"] = values.get("ladder", {}) | {"sizes": 0}
    return (
        f"{byte_size(size)} of text, which is little: train.tokens for {steps * batch / distinct:.2g} epochs, "
        f"train.optimizer.weight_decay = {train['optimizer']['weight_decay']:g}, checkpoint.keep_best"
        + (", and no ladder" if steps < FEWEST_STEPS_WITH_LADDER else "")
    )
