"""Benchmarks run by hand: what they import from the package and from the tests is there."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=[str(path.relative_to(ROOT)) for path in SCRIPTS])
def test_what_a_benchmark_imports_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("tenfold", "tests")):
            continue
        module = importlib.import_module(node.module)
        for alias in node.names:
            if not hasattr(module, alias.name):
                importlib.import_module(f"{node.module}.{alias.name}")


def test_the_tests_that_hold_each_fault_of_learners_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for case in importlib.import_module("learner_faults").CASES:
        for path, _, name in (each.partition("::") for each in case.tests):
            body = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8")).body
            assert name in [node.name for node in body if isinstance(node, ast.FunctionDef)], f"{path}: no {name}"
