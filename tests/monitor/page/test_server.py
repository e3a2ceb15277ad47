"""The server: what it serves, to whom, and one line for what is wrong. A real process and real requests."""

import gzip
import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenfold.ledger import Ledger
from tests import warm
from tests.monitor.page.ledgers import rows, write_run
from tests.monitor.page.serving import served
from tests.once import made_once


def campaign() -> Path:
    """Looked at by all tests of this file, changed by none."""
    return made_once("watched", _write)


def _write(folder: Path) -> None:
    write_run(folder, 300)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served([campaign()]) as address:
        yield address


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()


def test_everything_the_page_needs_comes_from_here_and_is_compressed(url: str) -> None:
    status, headers, page = get(url)
    assert status == 200 and "default-src 'none'" in headers["content-security-policy"]
    links = re.findall(r'(?:href|src)="([^"#]+)"', page.decode())
    assert len(links) > 15 and all(link.startswith(("/static/", "/api/state")) for link in links)
    assert not re.search(r"<style|style=|<script>|onclick=", page.decode())
    for link in filter(lambda link: link.startswith("/static/"), links):
        status, headers, content = get(url.rstrip("/") + link, Accept_Encoding="gzip")
        assert status == 200 and headers["content-encoding"] == "gzip"
        source = gzip.decompress(content).decode()
        assert not re.search(r"https?://(?!www\.w3\.org|github\.com/leeoniya)", source), link
        for module in re.findall(r'from "\./([\w.]+)"', source):
            assert f"/static/{module}" in links
        assert get(url.rstrip("/") + link, If_None_Match=headers["etag"])[0] == 304


def test_the_state_and_a_run(url: str) -> None:
    state = json.loads(get(f"{url}api/state")[2])
    assert [run["key"] for run in state["campaigns"][0]["runs"]] == ["0.1"]
    run = json.loads(get(f"{url}api/run/0.1")[2])
    assert run["last"] == 300 and len(run["incidents"]) == 3 and run["forecast"]["curve"]


def test_metrics_for_prometheus_are_served_and_guarded_too(url: str) -> None:
    status, headers, content = get(f"{url}metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain")
    assert b"# TYPE" in content and get(f"{url}metrics", Host="example.com")[0] == 421


def test_a_curve_as_csv_is_what_the_ledger_has(url: str) -> None:
    text = get(f"{url}api/curve.csv?run=0.1&name=train/loss&low=10&high=20")[2].decode().splitlines()
    ledger = Ledger(campaign() / "ledger.sqlite", read_only=True)
    expected = [f"train/loss,{step},{value!r}" for step, value in ledger.metric(1, "train/loss") if 10 <= step <= 20]
    assert text == ["name,step,value", *expected]


def test_the_feed_tells_new_rows_and_goes_on_after_an_id(tmp_path: Path) -> None:
    run = write_run(tmp_path, 50, done=False)
    with served([tmp_path]) as url:
        cursor = json.loads(get(f"{url}api/state")[2])["cursor"]
        get(f"{url}api/curves?run=0.{run}&name=train/loss&columns=100")
        ledger = Ledger(tmp_path / "ledger.sqlite")
        ledger.log(run, rows(51, 52, 50))
        (first,) = read_feed(f"{url}feed?after={cursor}", 1)
        assert first["event"] == "rows" and first["data"]["groups"][0]["steps"] == [51, 2]
        ledger.log(run, rows(53, 53, 50))
        (second,) = read_feed(f"{url}feed?after={cursor}", 1, Last_Event_ID=first["id"])
        assert second["data"]["groups"][0]["steps"] == [53, 1]


def read_feed(url: str, count: int, **headers: str) -> list[dict[str, Any]]:
    """The first messages of a feed, pings apart."""
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    found: list[dict[str, Any]] = []
    message: dict[str, Any] = {}
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            name, _, value = line.decode().strip().partition(": ")
            if name:
                message[name] = json.loads(value) if name == "data" else value
            elif message.get("event") not in (None, "alive"):
                found.append(message)
                message = {}
                if len(found) == count:
                    return found
            else:
                message = {}
    return found


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("api/run/0.99", 404),
        ("api/run/7.1", 404),
        ("api/run/..", 404),
        ("api/curves?run=0.1&name=train/loss&columns=x", 400),
        ("api/curves?run=0.1&name=train/loss&low=-1", 400),
        ("api/curves?run=0.1&name=nothing&columns=99999999&means=9999999", 200),
        ("static/../server.py", 404),
        ("static/uplot/LICENSE", 404),
        ("nothing", 404),
    ],
)
def test_strange_requests_get_a_status(url: str, path: str, status: int) -> None:
    assert get(url + path)[0] == status


def test_only_this_machine_may_call_it_by_its_own_name(url: str) -> None:
    assert get(url, Host="example.com")[0] == 421
    assert get(url, Host="localhost:1")[0] == 200
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(url, data=b"x")


def test_beyond_the_loopback_a_token_is_asked_for(tmp_path: Path) -> None:
    with served([campaign()], "--host", "0.0.0.0") as url:
        address, _, token = url.partition("?token=")
        assert len(token) >= 32
        assert get(f"{address}api/state")[0] == 401
        assert get(f"{address}api/state?token=wrong")[0] == 401
        assert get(f"{address}api/state", Authorization=f"Bearer {token}")[0] == 200
        assert get(f"{address}api/state", Cookie=f"tenfold-watch={token}")[0] == 200
    file = tmp_path / "token"
    file.write_text("correct-horse-battery\n")
    with served([campaign()], "--token-file", str(file)) as url:
        assert "token" not in url and get(url)[0] == 401
        assert get(url, Authorization="Bearer correct-horse-battery")[0] == 200


# Bad input: one line and status 2


def refused(*words: str) -> str:
    done = warm.run(["watch", *words])
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"--port {port}: in use on 127.0.0.1" in refused(str(campaign()), "--port", port)


def test_a_host_that_is_none_of_this_machine() -> None:
    assert "--host 192.0.2.1: not an address of this machine" in refused(str(campaign()), "--host", "192.0.2.1")


def test_a_folder_without_a_campaign(tmp_path: Path) -> None:
    assert "no campaign here" in refused(str(tmp_path), "--port", "0")


def test_a_token_that_is_missing_or_too_short(tmp_path: Path) -> None:
    assert "cannot be read (No such file" in refused(str(campaign()), "--token-file", str(tmp_path / "none"))
    (tmp_path / "short").write_text("abc")
    assert "16 characters at least" in refused(str(campaign()), "--token-file", str(tmp_path / "short"))
