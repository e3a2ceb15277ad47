"""`tenfold watch`: binds, says where, serves until it is told to stop."""

import asyncio
import errno
import ipaddress
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from tenfold.core import InputError
from tenfold.monitor.page.app import Watcher, page_app

PORT = 7117
SHORTEST_TOKEN = 16
CLOSING_S = 2


def watch_page(
    campaigns: Sequence[Path],
    say: Callable[[dict[str, str]], None],
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    token_file: Path | None = None,
    routes: Callable[[Sequence[Path]], Sequence[BaseRoute]] = lambda campaigns: (),
) -> None:
    """Serve the page of these campaigns until SIGINT or SIGTERM; `say` is told the address once it can be opened.

    `routes` gives routes of others beside the page's own. Raises InputError for a port in use, a folder without
    campaign, a token that is missing or too short; TenfoldError for a ledger that cannot be read.
    """
    token = _token(host, token_file)
    with closing(_bound(host, port)) as listening, closing(Watcher(campaigns)) as watcher:
        app = page_app(watcher, token, routes(campaigns))
        address = _address(listening, host, token if token_file is None else None)
        asyncio.run(_serve(app, watcher, listening, lambda: say({"url": address})))


def _token(host: str, file: Path | None) -> str | None:
    """None on the loopback without a file; else the file's, or a new one."""
    if file is None:
        return None if _is_loopback(host) else secrets.token_urlsafe(24)
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise InputError(f"--token-file {file}: cannot be read ({reason})") from error
    if len(token) < SHORTEST_TOKEN:
        raise InputError(f"--token-file {file}: a token has {SHORTEST_TOKEN} characters at least")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InputError(f"--host {host}: no address of this machine ({error.strerror})") from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InputError(_why_not_bound(error, host, port)) from error
    return listening


def _why_not_bound(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port {port}: in use on {host}; choose another one, or 0 for any that is free"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"--port {port}: not allowed; choose one above 1023, or 0 for any that is free"
    return f"--host {host}: not an address of this machine ({error.strerror})"


def _address(listening: socket.socket, host: str, token: str | None) -> str:
    """What to open; with a token that was made here, since it is said nowhere else."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else "")


async def _serve(app: Starlette, watcher: Watcher, listening: socket.socket, started: Callable[[], None]) -> None:
    settings = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=CLOSING_S, ws="none"
    )
    server = _Server(settings)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True
        watcher.feed.close()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    started()
    await serving


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
