"""A real Chromium for the tests of the page, and a wire to it that can be cut."""

import importlib.util
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
"""Debian's package `chromium`."""
needs_browser = pytest.mark.skipif(
    not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None,
    reason="no browser: needs Debian's chromium at /usr/bin/chromium and the Python package playwright",
)
PATIENCE_MS = 120_000


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, url: str, *, quiet: bool = True, **how: Any) -> Iterator[Any]:
    """The page once it is drawn. Fails at the end if its console says anything, unless it need not be `quiet`."""
    with browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | how)) as context:
        context.set_default_timeout(PATIENCE_MS)
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        page.wait_for_selector("body[data-state=drawn]")
        yield page
        assert not quiet or not said, said


class Wire:
    """Carries connections to a port of this machine until it is cut."""

    def __init__(self, port: int) -> None:
        self._to, self._ends = port, set[socket.socket]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.is_cut, self.bytes = False, 0
        """`bytes`: how many were carried to the browser."""
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection, and let no other one come about."""
        self.is_cut = True
        for end in list(self._ends):
            end.close()

    def mend(self) -> None:
        """Carry again."""
        self.is_cut = False

    def lead_to(self, port: int) -> None:
        """Carry new connections there."""
        self._to = port

    def close(self) -> None:
        """For good."""
        self.cut()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.close()
                continue
            self._ends |= {near, far}
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with near, far, selectors.DefaultSelector() as ready:
            try:
                for end in other:
                    ready.register(end, selectors.EVENT_READ)
                while True:
                    for key, _ in ready.select(timeout=0.1):
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        if not data:
                            return
                        self.bytes += len(data) if key.fileobj is far else 0
                        other[key.fileobj].sendall(data)  # type: ignore[index]
                    if self.is_cut:
                        return
            except (OSError, ValueError):
                return
