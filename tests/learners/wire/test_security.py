"""Who may talk: tokens, versions of messages, TLS."""

import math
from pathlib import Path

import pyarrow.flight as flight
import pytest

from tenfold.core.errors import InputError
from tenfold.learners.messages import MESSAGES_VERSION, NotAdmitted
from tenfold.learners.wire import BlobServer, Link, Refused, Security, Unreachable
from tenfold.learners.wire.security import VERSION_HEADER, call_headers
from tests.learners.wire.serving import MIB, SECURITY, BlobKeeper, behind_proxies, linked, noise, serving


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
    with flight.FlightClient(f"grpc+tcp://127.0.0.1:{getattr(server, port)}") as client:
        with pytest.raises(flight.FlightUnauthenticatedError, match="no token"):
            list(client.do_action(flight.Action("echo", b"{}")))
        with pytest.raises(flight.FlightUnauthenticatedError, match="no token"):
            client.do_get(flight.Ticket(b"{}")).read_all()
    assert keeper.reasons == ["a call with no token"] * 2


@pytest.mark.parametrize("theirs", ["1", "none"])
def test_another_version_of_tenfold_is_refused_in_one_line(
    server: BlobServer, keeper: BlobKeeper, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    token = call_headers(SECURITY)[0]
    others = [token] if theirs == "none" else [token, (VERSION_HEADER.encode(), theirs.encode())]
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
