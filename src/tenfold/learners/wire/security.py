"""Who may talk: a bearer token and the version of the messages on every call, TLS beyond loopback."""

import hmac
import ipaddress
import os
import secrets
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

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
    check_certificate(security)


def check_client(host: str, security: Security) -> None:
    """Raises InputError for a client that would send its token in the clear."""
    if not is_loopback(host) and not security.root_certificate:
        raise InputError(f"{host}: beyond loopback a learner needs the syncer's certificate; give --tls-root")


def check_certificate(security: Security) -> None:
    """Raises InputError where a server's certificate and key do not serve: unreadable, no pair, out of date.

    A client that trusts this certificate alone shakes hands with a server that shows it, in memory.
    """
    if not (security.certificate and security.key):
        return
    certificate, key = security.certificate, security.key
    for path in (certificate, key):
        _read(path)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        server.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise InputError(_wrong_pair(error, certificate, key)) from error
    client.check_hostname, client.verify_flags = False, client.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate)
    try:
        _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        raise InputError(
            f"{certificate}: {error.verify_message}; make a new one, and give it to the learners"
        ) from None


def _wrong_pair(error: Exception, certificate: Path, key: Path) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"{key}: the key of another certificate than {certificate}"
    return f"{certificate} and {key}: not a certificate and its key without a password, in PEM ({error})"


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Raises SSLCertVerificationError where the client does not accept what the server shows."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True))
    for _ in range(2):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()


def server_credentials(security: Security) -> Any:
    """TLS of a server; None without. Raises InputError when a file cannot be read."""
    if not (security.certificate and security.key):
        return None
    return grpc.ssl_server_credentials([(_read(security.key), _read(security.certificate))])


def client_credentials(security: Security) -> Any:
    """TLS of a client; None without. Raises InputError when the file cannot be read."""
    return grpc.ssl_channel_credentials(_read(security.root_certificate)) if security.root_certificate else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


class CallCheck(grpc.ServerInterceptor):  # type: ignore[misc]
    """Refuses every call without the token or of another version, before any byte of its body is read."""

    def __init__(self, token: str, rejected: Callable[[str], None]) -> None:
        self._expected, self._rejected = f"Bearer {token}".encode(), rejected

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """What the client of a refused call sees: UNAUTHENTICATED without the token, else PERMISSION_DENIED."""
        headers = dict(details.invocation_metadata)
        given = _bytes_of(headers.get("authorization", b""))
        if not hmac.compare_digest(given, self._expected):
            what = "a wrong token" if given else "no token"
            self._rejected(f"a call with {what}")
            return _refusal(grpc.StatusCode.UNAUTHENTICATED, f"refused: {what}")
        version = _bytes_of(headers.get(VERSION_HEADER, b"")).decode(errors="replace")
        if version != str(MESSAGES_VERSION):
            reason = OTHER_VERSION.format(theirs=version[:20] or "none", ours=MESSAGES_VERSION)
            self._rejected(reason)
            return _refusal(grpc.StatusCode.PERMISSION_DENIED, reason)
        return continuation(details)


def _refusal(code: Any, reason: str) -> Any:
    """A stream, so that nothing of the request is waited for."""

    def refuse(_: object, context: Any) -> None:
        context.abort(code, reason)

    return grpc.stream_unary_rpc_method_handler(refuse)


def _bytes_of(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def call_headers(security: Security) -> Mapping[str, str]:
    """What a client sends with every call."""
    return {"authorization": f"Bearer {security.token}", VERSION_HEADER: str(MESSAGES_VERSION)}


def make_token(path: Path) -> str:
    """The run's bearer token, made once, for the owner's eyes only."""
    if path.exists():
        return read_token(path)
    token = secrets.token_urlsafe(32)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
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
