"""A new campaign: its campaign.toml written from an example, for text of one's own, or after another campaign."""

import tomllib
import unicodedata
from pathlib import Path
from typing import Any

from tenfold.config import FILE_NAME, example_values, load_campaign, read_text, render_campaign
from tenfold.core import InputError
from tenfold.data import sources_of


def init_campaign(directory: Path, example: str, data: str | None, like: Path | None = None) -> Path:
    """Write `directory/campaign.toml`, with the settings of an example, or of the campaign in `like`.

    Raises InputError when one is there, when `data` or `like` does not exist.
    """
    path = directory / FILE_NAME
    if path.exists():
        raise InputError(f"{path}: exists already; choose another directory or delete it")
    _refuse_unwritable("directory", directory.resolve().name)
    if like is not None and data is not None:
        raise InputError("--like takes [data] from that campaign; leave out --data, or set data.sources afterwards")
    values = example_values(example) if like is None else _values_of(like)
    values["name"] = directory.resolve().name
    if data is not None:
        _refuse_unwritable("--data", data)
        if Path(data).resolve() == (directory / "data").resolve():
            raise InputError(f"--data {data}: the corpus will be written there; rename your folder, then name it so")
        _fit_to_own_text(values, data)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(render_campaign(values, f"{values['name']}: made by tenfold init"), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{directory}: cannot write here ({error.strerror})") from error
    return path


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


def _fit_to_own_text(values: dict[str, Any], data: str) -> None:
    """The user's text in place of the example's, judged on a part of it alone, and none of the demonstration.

    A larger share is held out than the example does: a small folder must still leave something to judge on.
    """
    split = [holdout | {"fraction": 0.05} for holdout in values["data"]["holdouts"] if holdout["kind"] == "split"]
    values["data"] |= {"sources": sources_of(data), "holdouts": split}
    for demonstration in ("learners", "chaos"):  # learners of which one is killed: not what own data is for
        values.pop(demonstration, None)
