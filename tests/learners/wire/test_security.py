"""Who may talk: tokens, versions of messages, TLS."""

import math
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tenfold.core.errors import InputError
from tenfold.learners.messages import MESSAGES_VERSION, NotAdmitted
from tenfold.learners.wire import BlobServer, Link, Refused, Security, Unreachable
from tenfold.learners.wire.framing import CONTROL, GET, PUT
from tenfold.learners.wire.security import VERSION_HEADER, call_headers
from tests.learners.wire.serving import MIB, SECURITY, BlobKeeper, behind_proxies, linked, noise, raw_call, serving


@pytest.mark.parametrize("token", ["wrong", "", "s"])
def test_a_wrong_token_is_refused_at_once(server: BlobServer, keeper: BlobKeeper, token: str) -> None:
    with linked(server.address, Security(token), patience=math.inf) as link:
        with pytest.raises(Refused, match="token"):
            link.call("echo", {})
        with pytest.raises(Refused, match="token"):
            link.put("k", {}, b"a")
    assert keeper.reasons == ["a call with a wrong token"] * 2, "neither is tried again"
    assert not keeper.blobs


@pytest.mark.parametrize("port", ["control_port", "bulk_port"])
def test_without_a_token_nothing_is_looked_at(server: BlobServer, keeper: BlobKeeper, port: str) -> None:
    methods = [f"{CONTROL}echo"] if port == "control_port" else [PUT, GET]
    for method in methods:
        with pytest.raises(grpc.RpcError, match="no token"):
            raw_call(getattr(server, port), method, b"{}", [])
    assert keeper.reasons == ["a call with no token"] * len(methods)


@pytest.mark.parametrize("theirs", ["1", "none"])
def test_another_version_of_tenfold_is_refused_in_one_line(
    server: BlobServer, keeper: BlobKeeper, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    token = {"authorization": call_headers(SECURITY)["authorization"]}
    others = token if theirs == "none" else token | {VERSION_HEADER: theirs}
    monkeypatch.setattr("tenfold.learners.wire.link.call_headers", lambda _: others)
    said = f"messages of version {theirs}, this process speaks version {MESSAGES_VERSION}; all processes of a run"
    with linked(server.address, patience=math.inf) as link, pytest.raises(NotAdmitted, match=said) as refused:
        link.put("k", {}, noise(1000))
    assert len(str(refused.value).splitlines()) == 1
    assert [said in reason for reason in keeper.reasons] == [True]
    assert not keeper.blobs


def test_a_server_without_a_token_does_not_start() -> None:
    with pytest.raises(InputError, match="token"):
        BlobServer(BlobKeeper(), Security(""))


def test_a_blob_comes_back_as_it_was_under_tls(keeper: BlobKeeper, tls: Security) -> None:
    with serving(keeper, tls) as server, linked(server.address, tls) as link:
        link.put("k", {}, noise(300_000))
        assert link.get("k") == ({}, bytearray(noise(300_000)))


def test_tls_beyond_loopback_is_allowed(keeper: BlobKeeper, tls: Security) -> None:
    with serving(keeper, tls, bind="0.0.0.0") as server, linked(f"127.0.0.1:{server.control_port}", tls) as link:
        assert link.call("echo", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("is_server_encrypted", [True, False])
def test_one_side_without_tls_does_not_talk(keeper: BlobKeeper, tls: Security, is_server_encrypted: bool) -> None:
    ends = (tls, SECURITY) if is_server_encrypted else (SECURITY, tls)
    with serving(keeper, ends[0]) as server, linked(server.address, ends[1]) as link, pytest.raises(Unreachable):
        link.call("echo", {}, timeout=0.5, patience=0.5)
    assert not keeper.reasons


def test_damage_under_tls_is_mended(keeper: BlobKeeper, tls: Security) -> None:
    with serving(keeper, tls) as server, behind_proxies(server) as (address, _, bulk), linked(address, tls) as link:
        bulk.corrupt(2)
        link.put("k", {}, noise(MIB))
    assert keeper.blobs["k"].data == noise(MIB)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_beyond_loopback_both_sides_want_tls(bind: str) -> None:
    with pytest.raises(InputError, match="beyond loopback the syncer needs TLS"):
        BlobServer(BlobKeeper(), SECURITY, bind=bind)
    with pytest.raises(InputError, match="beyond loopback a learner needs the syncer's certificate"):
        Link(f"[{bind}]:1" if ":" in bind else f"{bind}:1", SECURITY)


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing_file = tmp_path / "certificate.pem"
    with pytest.raises(InputError, match=r"certificate\.pem: cannot be read"):
        BlobServer(BlobKeeper(), Security("secret", missing_file, missing_file))


def certificate(folder: Path, name: str, *, begins: int = -1, ends: int = 1) -> tuple[Path, Path]:
    """A new certificate for the loopback that is good between two days from now, and its key."""
    key, who = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tenfold")])
    now, loopback = datetime.now(UTC), x509.IPAddress(ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=ends))
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    found, key_file = folder / f"{name}.pem", folder / f"{name}-key.pem"
    found.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return found, key_file


def test_a_certificate_that_is_out_of_date_does_not_serve(tmp_path: Path) -> None:
    old, key = certificate(tmp_path, "old", begins=-3, ends=-2)
    with pytest.raises(InputError, match=r"old\.pem: certificate has expired; make a new one"):
        BlobServer(BlobKeeper(), Security("secret", old, key, old))


def test_the_key_of_another_certificate_is_said(tmp_path: Path) -> None:
    mine, _ = certificate(tmp_path, "mine")
    _, other = certificate(tmp_path, "other")
    with pytest.raises(InputError, match=r"other-key\.pem: the key of another certificate than .*mine\.pem"):
        BlobServer(BlobKeeper(), Security("secret", mine, other, mine))


def test_what_is_no_certificate_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    with pytest.raises(InputError, match=r"text\.pem: not a certificate and its key"):
        BlobServer(BlobKeeper(), Security("secret", tmp_path / "text.pem", tmp_path / "text.pem"))


@pytest.mark.parametrize("trouble", ["expired", "another"])
def test_a_certificate_that_is_not_accepted_ends_a_client_with_the_reason(
    tmp_path: Path, keeper: BlobKeeper, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr("tenfold.learners.wire.security.check_certificate", lambda _: None)
    shown, key = certificate(tmp_path, "shown", begins=-3, ends=-2 if trouble == "expired" else 2)
    trusted = shown if trouble == "expired" else certificate(tmp_path, "trusted")[0]
    reason = "certificate has expired" if trouble == "expired" else "not accepted"
    with (
        serving(keeper, Security("secret", shown, key)) as server,
        linked(server.address, Security("secret", root_certificate=trusted), patience=math.inf) as link,
        pytest.raises(NotAdmitted, match=f"the certificate of the syncer is not accepted: .*{reason}|{reason}"),
    ):
        link.call("echo", {})
