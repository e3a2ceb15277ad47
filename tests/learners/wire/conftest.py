"""What tests of the wire share."""

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tenfold.learners.wire import BlobServer, Link, Security
from tests.learners.wire.serving import (
    BlobKeeper,
    linked,
    serving,
)


@pytest.fixture
def keeper() -> BlobKeeper:
    return BlobKeeper()


@pytest.fixture
def server(keeper: BlobKeeper) -> Iterator[BlobServer]:
    with serving(keeper) as found:
        yield found


@pytest.fixture
def link(server: BlobServer) -> Iterator[Link]:
    with linked(server.address) as found:
        yield found


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Security:
    """A certificate that its owner signed, for the loopback."""
    if shutil.which("openssl") is None:
        pytest.skip("no `openssl` to make a certificate with")
    key, certificate = (tmp_path_factory.mktemp("tls") / name for name in ("key.pem", "certificate.pem"))
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tenfold"
    names = ["-addext", "subjectAltName=IP:127.0.0.1,IP:::1"]
    where = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names, *where], check=True, capture_output=True)
    return Security("secret", certificate, key, certificate)
