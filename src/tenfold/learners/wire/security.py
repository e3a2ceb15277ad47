"""Who may talk: a bearer token and the version of the messages on every call, TLS beyond loopback."""

import hmac
import ipaddress
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.flight as flight

from tenfold.core import InputError
from tenfold.learners.messages import MESSAGES_VERSION

TOKEN_VARIABLE = "TENFOLD_TOKEN"
VERSION_HEADER = "tenfold-messages"
OTHER_VERSION = (
    "messages of version {theirs}, this process speaks version {ours}; all processes of a run must be of one tenfold"
)


@dataclass(frozen=True)
class Security:
    """`token`: of both sides. `certificate` and `key`: the server's TLS. `root_certificate`: what a client trusts."""

    token: str
    certificate: Path | None = None
    key: Path | None = None
    root_certificate: Path | None = None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_security(bind: str, security: Security) -> None:
    """Raises InputError for a server without a token, beyond loopback without TLS, or whose TLS cannot be read."""
    if not security.token:
        raise InputError("the syncer needs a token")
    if not is_loopback(bind) and not (security.certificate and security.key):
        raise InputError(
            f'learners.bind = "{bind}": beyond loopback the syncer needs TLS; set learners.tls_certificate and '
            "learners.tls_key"
        )
    server_options(security)


def check_client(host: str, security: Security) -> None:
    """Raises InputError for a client that would send its token in the clear."""
    if not is_loopback(host) and not security.root_certificate:
        raise InputError(f"{host}: beyond loopback a learner needs the syncer's certificate; give --tls-root")


def server_options(security: Security) -> dict[str, Any]:
    """TLS arguments of a Flight server. Raises InputError when a file cannot be read."""
    if not (security.certificate and security.key):
        return {}
    return {"tls_certificates": [(_read(security.certificate), _read(security.key))]}


def client_options(security: Security) -> dict[str, Any]:
    """TLS arguments of a Flight client. Raises InputError when the file cannot be read."""
    return {"tls_root_certs": _read(security.root_certificate)} if security.root_certificate else {}


def scheme(encrypted: bool) -> str:
    """Scheme of a Flight location, with TLS or without."""
    return "grpc+tls" if encrypted else "grpc+tcp"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


class CallCheck(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Refuses every call without the token or of another version, before anything else of it is looked at."""

    def __init__(self, token: str, rejected: Callable[[str], None]) -> None:
        super().__init__()
        self._expected, self._rejected = f"Bearer {token}".encode(), rejected

    def start_call(self, info: Any, headers: Mapping[str, Sequence[str | bytes]]) -> None:
        """Raises what the client sees: UNAUTHENTICATED without the token, PERMISSION_DENIED of another version."""
        given = _first(headers, "authorization")
        if not hmac.compare_digest(given, self._expected):
            what = "a wrong token" if given else "no token"
            self._rejected(f"a call with {what}")
            raise flight.FlightUnauthenticatedError(f"refused: {what}")
        version = _first(headers, VERSION_HEADER).decode(errors="replace")
        if version != str(MESSAGES_VERSION):
            reason = OTHER_VERSION.format(theirs=version[:20] or "none", ours=MESSAGES_VERSION)
            self._rejected(reason)
            raise flight.FlightUnauthorizedError(reason)


def _first(headers: Mapping[str, Sequence[str | bytes]], name: str) -> bytes:
    value = next(iter(headers.get(name, ())), "")
    return value.encode() if isinstance(value, str) else value


def call_headers(security: Security) -> list[tuple[bytes, bytes]]:
    """What a client sends with every call."""
    return [
        (b"authorization", f"Bearer {security.token}".encode()),
        (VERSION_HEADER.encode(), str(MESSAGES_VERSION).encode()),
    ]


def make_token(path: Path) -> str:
    """The run's bearer token, made once, for the owner's eyes only."""
    if path.exists():
        return read_token(path)
    token = secrets.token_urlsafe(32)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(token + "\n")
    try:
        os.link(temporary, path)  # whole or not at all, and the first one stays
    except FileExistsError:
        return read_token(path)
    finally:
        temporary.unlink()
    return token


def read_token(path: Path) -> str:
    """Raises InputError when there is none."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the token cannot be read ({error})") from error
    if not token:
        raise InputError(f"{path}: empty; it must hold the syncer's token")
    return token


def token_from(path: Path | None, default: Path) -> str:
    """The token: from the file named, from the environment, or from the campaign."""
    if path is not None:
        return read_token(path)
    return os.environ.get(TOKEN_VARIABLE, "").strip() or read_token(default)
