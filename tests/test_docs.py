"""README, CONTRIBUTING and docs/ name files, modules, links and commands that exist; pages made by code are fresh."""

import ast
import importlib
import re
import shlex
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tenfold.cli import app
from tests.planner.codesign import page as codesign
from tests.planner.hardware import page as hardware
from tests.planner.tables import rewritten

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tenfold"
CONTRIBUTING, INDEX, GLOSSARY = ROOT / "CONTRIBUTING.md", ROOT / "docs" / "index.md", ROOT / "docs" / "glossary.md"
PAGES = [ROOT / "README.md", CONTRIBUTING, *sorted((ROOT / "docs").glob("*.md"))]
ALL_PAGES = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.M | re.S)
INDENTED = re.compile(r"^ {4}(\S.*)$", re.M)
CODE = re.compile(r"`([^`\n]+)`")
MADE_HERE = re.compile(r"<!-- made here: (.*?) -->")
"""Files that a page asks its reader to write."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def fences(page: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return [(language, textwrap.dedent(text)) for _, language, text in FENCE.findall(text_of(page))]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


def code_of(page: Path) -> list[str]:
    """All code of a page, the tour apart: between backticks, in fences, in indented lines."""
    fenced = [text for _, text in fences(page) if not text.startswith("src/tenfold/")]
    return [*CODE.findall(prose(page)), *INDENTED.findall(prose(page)), *fenced]


def made_by_reader(page: Path) -> set[str]:
    """Files that exist once the reader has done what the page says."""
    return set(" ".join(MADE_HERE.findall(text_of(page))).split())


# Files

FILE = re.compile(r"(?<![\w.*/<{…$-])[\w.-]+(?:/[\w.-]+)*\.(?:py|jinja)(?![\w{*(])")
BELOW_A_FOLDER = re.compile(r"(?<![\w.*/…-])(?:src|tests|docs|benchmarks|planner)/[\w./-]*\w")
OF_OTHERS = {"pretrain_gpt.py"}


def is_there(name: str, page: Path) -> bool:
    """Pages name a file from the repository, from the package, or from the room that the page is about."""
    return any((folder / name).exists() for folder in (ROOT, PACKAGE, PACKAGE / page.stem))


@ALL_PAGES
def test_files_that_a_page_names_are_there(page: Path) -> None:
    named = {name for code in code_of(page) for each in (FILE, BELOW_A_FOLDER) for name in each.findall(code)}
    missing = {name for name in named - OF_OTHERS if not is_there(name, page)}
    assert not {name for name in missing if not any(made.endswith(name) for made in made_by_reader(page))}


def paths_of_tree(tree: str) -> Iterator[Path]:
    """A path for each line, which stands indented below its folder; further words of the line say what it is."""
    above: list[tuple[int, Path]] = [(-1, ROOT)]
    for line in filter(str.strip, tree.splitlines()):
        depth, name = len(line) - len(line.lstrip()), line.split()[0]
        above = [(other, path) for other, path in above if other < depth]
        yield above[-1][1] / name
        above.append((depth, above[-1][1] / name))


def test_the_tour_shows_every_room_and_only_files_that_are_there() -> None:
    tree = next(text for _, text in fences(CONTRIBUTING) if text.startswith("src/tenfold/"))
    shown = list(paths_of_tree(tree))
    assert not [path for path in shown if not path.exists()]
    assert {door.parent for door in PACKAGE.glob("*/__init__.py")} <= set(shown)


# Modules

MODULE = re.compile(r"(?<![\w./-])(?:tenfold|tests|benchmarks)(?:\.\w+)+(?![\w/.])")


@cache
def problem_of_name(dotted: str) -> str | None:
    """What is wrong with a dotted name, which is a module or something in one; None where it is there."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:]:
            if not hasattr(found, name):
                return f"{dotted}: {'.'.join(parts[:count])} has no {name}"
            found = getattr(found, name)
        return None
    return f"no module {dotted}"


def problems_of_names(names: set[str], page: Path) -> list[str]:
    made = {path.removesuffix(".py").removeprefix("src/").replace("/", ".") for path in made_by_reader(page)}
    wanted = sorted(name for name in names if not any(name.startswith(module) for module in made))
    return [problem for name in wanted if (problem := problem_of_name(name))]


@ALL_PAGES
def test_modules_that_a_page_names_are_there(page: Path) -> None:
    named = {name for code in code_of(page) for name in MODULE.findall(code)}
    assert not problems_of_names({name for name in named if not name.endswith((".egg", ".git"))}, page)


def imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("tenfold", "tests")):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@ALL_PAGES
def test_python_that_a_page_shows_imports_what_is_there(page: Path) -> None:
    sources = [text for language, text in fences(page) if language == "python" and "import " in text]
    assert not problems_of_names({name for source in sources for name in imported(source)}, page)


# Links


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """Where a page's links within the repository lead."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if not target.startswith(("http:", "https:"))]


@ALL_PAGES
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        file, _, anchor = target.partition("#")
        to = (page.parent / file).resolve() if file else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), target


def test_the_index_leads_to_every_page() -> None:
    linked = {(INDEX.parent / target.partition("#")[0]).resolve() for target in links(INDEX)}
    assert set(PAGES) - linked == {INDEX}


# Commands

START = re.compile(r"(?:\$ |.*-m |\S*/)?tenfold ([a-z].*)")
DEFAULTS = {"plan": "here", "data": "build", "learner": "run", "metrics": "show"}


def commands_of(page: Path) -> list[str]:
    """What follows `tenfold` in each command of a page, up to a comment or a pipe; lines that go on are joined."""
    lines = [line for language, text in fences(page) if language != "python" for line in joined(text).splitlines()]
    shown = [*CODE.findall(prose(page)), *INDENTED.findall(joined(prose(page))), *lines]
    found = [START.fullmatch(code.strip()) for code in shown]
    return [re.split(r"\s+(?:#|→|&&|\|)\s", match[1])[0] for match in found if match]


def joined(text: str) -> str:
    return re.sub(r"\\\n\s*", " ", text)


def words_of(command: str) -> list[str]:
    """Words as a shell would see them. Brackets mark what may be left out, `\\|` parts what may stand in one place."""
    return shlex.split(command.replace("\\|", "|").replace("[", " ").replace("]", " "))


def problem_of_command(command: str) -> str | None:
    """What is wrong with its verb, sub-verb or options; None where all exist."""
    verb, *rest = words_of(command)
    found: Any = typer.main.get_command(app).commands.get(verb)  # type: ignore[attr-defined]
    if found is None:
        return f"no verb {verb!r}"
    if verb in DEFAULTS:
        named = rest[0].split("|") if rest and set(rest[0].split("|")) <= set(found.commands) else []
        found = found.commands[named[0] if named else DEFAULTS[verb]]
    known = {"--help"} | {option for parameter in found.params for option in parameter.opts}
    wrong = [word for word in rest if word.startswith("--") and word.split("=")[0] not in known]
    return f"no option {wrong[0]} in `tenfold {command}`" if wrong else None


@ALL_PAGES
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    assert not [problem for command in commands_of(page) if (problem := problem_of_command(command))]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("learner join|leave my --name learner-7", None),
        ("plan MODEL --top 3 --cluster C", "--top"),
        ("plan model MODEL --top 3 --cluster C", None),
        ("run --dept 3", "--dept"),
        ("fly", "fly"),
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str, problem: str | None) -> None:
    found = problem_of_command(command)
    assert found is None if problem is None else found is not None and problem in found


def test_commands_are_found_where_pages_show_them() -> None:
    shown = {command.split()[0] for page in PAGES for command in commands_of(page)}
    assert {"init", "run", "data", "plan", "predict", "derisk", "learner", "chaos", "doctor"} <= shown


def test_targets_of_make_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.M))
    named = {word for page in PAGES for code in code_of(page) for word in re.findall(r"^make ([a-z ]+)", code)}
    assert {"docs", "test"} <= {each for words in named for each in words.split()} <= targets


# Pages made by code; those of the configuration, the errors and the ledger are tested beside what writes them


@pytest.mark.parametrize("page", [codesign, hardware], ids=lambda page: page.PAGE.name)
def test_pages_with_tables_are_up_to_date(page: Any) -> None:
    assert rewritten(text_of(page.PAGE), page.tables()) == text_of(page.PAGE), "run `make docs`"


def test_the_glossary_is_sorted_and_has_no_word_twice() -> None:
    words = [word.lower() for word in re.findall(r"^\| ([^|]+?) \|", text_of(GLOSSARY), re.M)][1:]
    assert words == sorted(set(words)) and len(words) >= 30
