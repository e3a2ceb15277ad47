"""Front doors of the rooms: every name opens, and rooms of numbers alone start without torch."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import tenfold

PACKAGE = Path(tenfold.__file__).parent
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.pyi"))
WITHOUT_TORCH = ("core", "ledger", "config", "pages", "planner", "scaling")

PUBLIC = [
    "Campaign",
    "InputError",
    "Interrupted",
    "Ledger",
    "NotFinite",
    "Observer",
    "TenfoldError",
    "execute",
    "learner",
    "load_campaign",
    "plan_model",
    "predict_table",
    "run_campaign",
    "train_step",
    "watch",
    "watch_trainer",
]
"""What `import tenfold` offers; docs/architecture.md says what for."""


def test_rooms_have_doors() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders - set(ROOMS) == {"cli"}  # the program is entered by its main alone


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_every_name_at_the_door_is_there(room: str) -> None:
    module = importlib.import_module(f"tenfold.{room}".rstrip("."))
    names = module.__all__
    assert names and len(set(names)) == len(names)
    for name in names:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_doors_are_not_modules(room: str) -> None:
    stub = ast.parse((PACKAGE / room / "__init__.pyi").read_text(encoding="utf-8"))
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1 and all(not alias.name.startswith("_") for alias in node.names)


def test_public_surface() -> None:
    assert sorted(tenfold.__all__) == PUBLIC


def test_rooms_of_numbers_start_without_torch() -> None:
    modules = [
        f"tenfold.{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}".removesuffix(".__init__")
        for room in WITHOUT_TORCH
        for path in sorted((PACKAGE / room).rglob("*.py"))
    ]
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    code += "    assert 'torch' not in sys.modules, name"
    run = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
