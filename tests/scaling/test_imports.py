"""The room starts without torch: whoever predicts from a table of runs waits for numpy alone."""

import pkgutil
import subprocess
import sys

import tenfold.scaling


def test_no_module_of_the_room_imports_torch() -> None:
    names = [f"tenfold.scaling.{module.name}" for module in pkgutil.iter_modules(tenfold.scaling.__path__)]
    assert "tenfold.scaling.predict" in names and "tenfold.scaling.curve_forecast" in names
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
