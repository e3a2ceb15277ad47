"""A data set hub on this machine: the few endpoints of the Hugging Face hub that streaming needs, over HTTP.

https://huggingface.co/docs/hub/api: repository information, its tree, information on paths, files with ranges.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
API = re.compile(
    r"/api/datasets/(?P<id>[^/]+/[^/]+)(?:/(?P<what>revision|tree|paths-info)/(?P<revision>[^/]+)(?P<path>/.*)?)?$"
)
FILE = re.compile(r"/datasets/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")


class Hub(ThreadingHTTPServer):
    """Serves the folder of one repository, as busy and as unreliable as it is told to be."""

    def __init__(self, repository: Path, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository, self.name = repository, name
        self.cut = 0
        """So many answers with a file end after half of it."""
        self.refuse = 0
        """So many requests for a file are answered with 503."""
        self.held = ""
        """The file for which requests wait until `released`."""
        self.asked_for_held, self.released = threading.Event(), threading.Event()
        self.sent: dict[str, int] = {}
        """Answers with each file."""

    @property
    def endpoint(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def entries(self, below: str) -> list[dict[str, Any]]:
        """Everything below a path, as the hub describes it."""
        found = sorted((self.repository / below).rglob("*"))
        return [self.entry(path.relative_to(self.repository).as_posix()) for path in found]

    def entry(self, path: str) -> dict[str, Any]:
        """One path as the hub describes it."""
        oid = hashlib.sha1(path.encode()).hexdigest()
        if (self.repository / path).is_dir():
            return {"type": "directory", "path": path, "size": 0, "oid": oid}
        return {"type": "file", "path": path, "size": (self.repository / path).stat().st_size, "oid": oid}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        """Nothing on the console."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: dict[str, Any] | None = None) -> None:
        path = unquote(urlsplit(self.path).path)
        if (asked := API.match(path)) and asked["id"] == self.server.name:
            self._say(self._of_api(asked["what"], (asked["path"] or "").strip("/"), body))
        elif (asked := FILE.match(path)) and (self.server.repository / asked["path"]).is_file():
            self._send(asked["path"])
        else:
            self._say({"error": "Repository or file not found"}, 404)

    def _of_api(self, what: str | None, path: str, body: dict[str, Any] | None) -> Any:
        hub = self.server
        if what == "paths-info":
            paths = [each for each in (body or {}).get("paths", []) if (hub.repository / each).exists()]
            return [hub.entry(each) for each in paths]
        if what == "tree":
            return hub.entries(path)
        files = [{"rfilename": each["path"]} for each in hub.entries("") if each["type"] == "file"]
        return {"_id": "1", "id": hub.name, "sha": COMMIT, "siblings": files, "private": False, "tags": []}

    def _say(self, value: Any, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 404:
            known = (match := API.match(self.path) or FILE.match(self.path)) and match["id"] == self.server.name
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send(self, path: str) -> None:
        hub = self.server
        if self.command == "GET" and hub.refuse:
            hub.refuse -= 1
            self._say({"error": "busy"}, 503)
            return
        content = (hub.repository / path).read_bytes()
        asked = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", ""))
        first, last = (int(asked[1]), int(asked[2] or len(content) - 1)) if asked else (0, len(content) - 1)
        part = content[first : last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        for name, value in (
            ("ETag", f'"{hub.entry(path)["oid"]}"'),
            ("X-Repo-Commit", COMMIT),
            ("Accept-Ranges", "bytes"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if hub.cut:
            hub.cut -= 1
            part, self.close_connection = part[: len(part) // 2], True
        hub.sent[path] = hub.sent.get(path, 0) + 1
        if path == hub.held:
            hub.asked_for_held.set()
            hub.released.wait()
        with suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(part)


@contextmanager
def serving(repository: Path, name: str) -> Iterator[Hub]:
    """The hub while it runs."""
    with Hub(repository, name) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            hub.released.set()
            hub.shutdown()
            thread.join()
