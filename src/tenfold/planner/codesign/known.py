"""Known models by name, and shapes of one's own from a file."""

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path

from tenfold.core import InputError
from tenfold.planner.cost.layout import Shape


@dataclass(frozen=True)
class KnownModel:
    """A published model, with its source."""

    name: str
    shape: Shape
    tokens: float
    """It was trained on; 0 where nobody published it."""
    source: str


def known_models() -> tuple[KnownModel, ...]:
    """All models of the shipped table, each once."""
    return tuple({model.name: model for model in _by_name().values()}.values())


def known_model(name: str) -> KnownModel:
    """The model of this name or alias, whatever the case. Raises InputError with the closest names."""
    models = _by_name()
    key = name.casefold()
    if key in models:
        return models[key]
    near = list(dict.fromkeys(models[one].name for one in difflib.get_close_matches(key, models, n=3, cutoff=0.5)))
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are {_names()}"
    raise InputError(f"unknown model {name!r}; {hint}, or give a TOML file with [model]")


def find_model(text: str) -> KnownModel:
    """A known model, or that of a TOML file: [model] as in a goal, and `tokens`. Raises InputError for neither."""
    if text.endswith(".toml") or (text.casefold() not in _by_name() and Path(text).is_file()):
        from tenfold.planner.codesign.goal import load_model  # a known model is found without the schema

        return load_model(Path(text))
    return known_model(text)


def _names() -> str:
    return ", ".join(model.name for model in known_models())


@cache
def _by_name() -> dict[str, KnownModel]:
    text = (resources.files("tenfold.planner.codesign") / "models.csv").read_text(encoding="utf-8")
    entries = {}
    for row in csv.DictReader(text.splitlines()):
        model = _model(row)
        for name in (row["name"], *filter(None, row["aliases"].split(";"))):
            entries[name.casefold()] = model
    return entries


def _model(row: Mapping[str, str]) -> KnownModel:
    shape = Shape(**{each.name: float(row[each.name]) for each in fields(Shape)})
    return KnownModel(row["name"], shape, float(row["tokens"] or 0), row["source"])
