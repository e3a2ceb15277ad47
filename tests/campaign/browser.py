"""Headless Chromium, to see a page as a person does."""

import shutil
import subprocess
from pathlib import Path

import pytest


class Browser:
    """Opens local files; nothing comes from the network."""

    def __init__(self, program: str, profile: Path) -> None:
        self._command = [program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]

    def screenshot(self, page: Path, to: Path, width: int = 1100, height: int = 1600) -> None:
        """A PNG of the page's beginning."""
        self._run(f"--window-size={width},{height}", f"--screenshot={to}", page.as_uri())

    def content(self, page: Path) -> str:
        """The page as the browser understood it."""
        return self._run("--dump-dom", page.as_uri()).decode()

    def complaints(self, page: Path) -> list[str]:
        """What the page wrote to the console: errors, warnings, anything."""
        done = self._done("--enable-logging=stderr", "--dump-dom", page.as_uri())
        return [line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]

    def _run(self, *words: str) -> bytes:
        return self._done(*words).stdout

    def _done(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*self._command, *words], check=True, capture_output=True, timeout=120)


def open_browser(profile: Path) -> Browser:
    """Skips the test where there is no Chromium. `profile` is a new folder."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine")
    return Browser(found, profile)
