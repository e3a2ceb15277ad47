"""Starting the planner: numbers only."""

import subprocess
import sys
from pathlib import Path

import pytest

import tenfold.planner

FOLDER = Path(tenfold.planner.__file__).parent
MODULES = sorted(
    ".".join(("tenfold.planner", *path.relative_to(FOLDER).with_suffix("").parts)).removesuffix(".__init__")
    for path in FOLDER.rglob("*.py")
)
HEAVY = ("torch", "tenfold.train", "tenfold.model", "tenfold.data")
CODE = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*(name for name in sys.argv[2:] if name in sys.modules))
"""


def loaded(module: str, *names: str) -> str:
    """Of `names` those that a fresh interpreter has loaded after importing `module`."""
    command = [sys.executable, "-c", CODE, module, *names]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("module", ["tenfold.planner.codesign.text", "tenfold.planner.notes"])
def test_what_imports_the_whole_room_loads_no_torch(module: str) -> None:
    assert loaded(module, *HEAVY) == ""
    assert loaded(module, "numpy") == "numpy"


def test_every_module_can_be_imported_and_none_loads_torch() -> None:
    code = (
        "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *MODULES], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
