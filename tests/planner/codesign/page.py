"""The tables of docs/codesign.md, written from the schema and the shipped models and goals.

`python -m tests.planner.codesign.page` writes them again.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from tenfold.config.describe import keys_of
from tenfold.planner.codesign.goal import (
    BatchSection,
    BudgetSection,
    Goal,
    LawSection,
    ModelSection,
    ServingSection,
    ShapesSection,
    example_goal_text,
    example_goals,
)
from tenfold.planner.codesign.known import known_models
from tests.planner.tables import row, short, write

PAGE = Path(__file__).parents[3] / "docs" / "codesign.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "": Goal,
    "[budget]": BudgetSection,
    "[model]": ModelSection,
    "[batch]": BatchSection,
    "[serving]": ServingSection,
    "[law]": LawSection,
    "[shapes]": ShapesSection,
}


def tables() -> dict[str, str]:
    """By the name of the marker they stand below."""
    return {"keys": "\n".join(keys()), "models": "\n".join(models()), "examples": "\n".join(examples())}


def keys() -> Iterator[str]:
    for header, section in SECTIONS.items():
        if header:
            yield f"\n**`{header}`** {(section.__doc__ or '').splitlines()[0].split(': ', 1)[1]}\n"
        yield from row("key", "allowed", "default", "meaning", head=True)
        for key in keys_of(section, ""):
            default = "required" if key.required else "" if key.default in (None, "") else f"`{key.default}`"
            meaning = " ".join(key.description.split()).replace("|", "\\|")
            yield from row(f"`{key.name}`", short(key.allowed), default, meaning)


def models() -> Iterator[str]:
    yield from row("name", "parameters (active)", "layers x width", "tokens", "source", head=True)
    for model in known_models():
        shape = model.shape
        active = f" ({float(shape.active_parameters) / 1e9:.3g} B)" if shape.experts else ""
        yield from row(
            f"`{model.name}`",
            f"{float(shape.parameters) / 1e9:.3g} B{active}",
            f"{shape.layers:g} x {shape.width:g}",
            f"{model.tokens / 1e12:g} T" if model.tokens else "–",
            model.source,
        )


def examples() -> Iterator[str]:
    yield from row("example", "what it asks", head=True)
    for name in example_goals():
        comment = [line[2:] for line in example_goal_text(name).splitlines() if line.startswith("# ")]
        yield from row(f"`{name}`", " ".join(comment))


if __name__ == "__main__":
    write(PAGE, tables())
