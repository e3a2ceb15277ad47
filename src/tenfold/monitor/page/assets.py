"""The page's own files, compressed once: nothing comes from elsewhere, so the page works without a network."""

import gzip
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from tenfold.core import digest_of_bytes
from tenfold.pages import style_sheet

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""Of the files that are served; any other one in the folder, such as a licence, is not."""
PRELOADS = "<!-- preloads -->"


@dataclass(frozen=True)
class Asset:
    """One file."""

    type: str
    plain: bytes
    packed: bytes
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """Every file by its path: `index.html`, `chart.js`, `uplot/uPlot.min.css`, ….

    The house's style, that the report has too, is `style.css`.
    """
    found = {name: file.read_bytes() for name, file in _walk(files(__package__) / "static", "")}
    found["style.css"] = style_sheet().encode()
    modules = sorted(name for name in found if name.endswith(".js") and "/" not in name)
    links = "".join(f'<link rel="modulepreload" href="/static/{name}">\n' for name in modules)
    found["index.html"] = found["index.html"].replace(PRELOADS.encode(), links.encode())
    return {name: _asset(name, content) for name, content in found.items()}


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _walk(each, f"{prefix}{each.name}/")
        elif each.name.rpartition(".")[2] in TYPES:
            found.append((prefix + each.name, each))
    return found


def _asset(name: str, content: bytes) -> Asset:
    kind = TYPES[name.rpartition(".")[2]]
    return Asset(kind, content, gzip.compress(content, 9, mtime=0), f'"{digest_of_bytes(content)[:16]}"')
