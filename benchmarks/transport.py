"""Transport: how much of a line's bandwidth a blob gets, beside iperf3 with as many streams.

    python benchmarks/transport.py [--streams 16] [--megabytes 20] [--mbit 20] [--delay-ms 50] [--loss 0.01]

Over an emulated line (`emulated_link.py`) between two network namespaces: iperf3's goodput as its receiver counts it,
then `Link.put` under TLS, on connections that are not open yet, from before the digest is taken until the answer is
there; then the same on the connections that are open by now (`ratio_when_open`), and small blobs of 300 kB; the ideal
beside these is a round trip and their bits at the line's rate. Then both on the loopback, where nothing but this
machine limits, without TLS. Needs root, iproute2, iperf3, openssl; exit status 2 when one is missing, 1 when less than
80% of iperf3 is reached over the line.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from emulated_link import End, Line, emulated_link, why_not
from tenfold.core.errors import TenfoldError
from tenfold.learners.wire import Blob, BlobServer, Link, Refused, Security

GOAL = 0.8
TOKEN = "benchmark"
SMALL_BYTES, SMALL_PUTS = 300_000, 9
LOOPBACK_MEGABYTES, LOOPBACK_SECONDS = 256, 3
CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"
THIS_MACHINE = "127.0.0.1"
LOCAL = End("", THIS_MACHINE)


class Sink:
    """Takes every blob and keeps none."""

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Nothing asked, nothing answered."""
        return {}

    def admit(self, key: str, header: dict[str, Any], size: int) -> None:
        """Any."""

    def receive(self, key: str, header: dict[str, Any], data: memoryview) -> dict[str, Any]:
        """How much came."""
        return {"bytes": len(data)}

    def blob(self, key: str) -> Blob:
        """None is kept."""
        raise Refused(key)

    def rejected(self, reason: str) -> None:
        """Nothing here is refused: say it loudly."""
        print(f"refused: {reason}", file=sys.stderr)


@dataclass(frozen=True)
class Task:
    """What the sender measures."""

    address: str
    root_certificate: str
    streams: int
    large_bytes: int
    small_puts: int


def serve(bind: str, certificate: str, key: str) -> None:
    """A server until standard input ends; its address goes to standard output."""
    security = Security(TOKEN, Path(certificate), Path(key)) if certificate else Security(TOKEN)
    server = BlobServer(Sink(), security, bind=bind)
    print(server.address, flush=True)
    sys.stdin.read()
    server.close()


def send(task: Task) -> dict[str, Any]:
    """Seconds of each put."""
    security = Security(TOKEN, root_certificate=Path(task.root_certificate) if task.root_certificate else None)
    link, random = Link(task.address, security, streams=task.streams, patience=30.0), Random(1)
    for _ in range(4):
        link.call("hello", {})
    latency = link.measure.latency
    large_s, again_s = (timed_put(link, name, random.randbytes(task.large_bytes)) for name in ("large", "again"))
    small = [timed_put(link, f"small-{n}", random.randbytes(SMALL_BYTES)) for n in range(task.small_puts)]
    link.close()
    return {"latency_s": latency, "large_s": large_s, "again_s": again_s, "small_s": small}


def timed_put(link: Link, key: str, data: bytes) -> float:
    """Seconds until the answer is there."""
    began = time.perf_counter()
    link.put(key, {}, data)
    return time.perf_counter() - began


def argv_at(end: End, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` at an end of the line, or here."""
    return end.run(argv) if end.namespace else list(argv)


@contextmanager
def running(end: End, argv: Sequence[str]) -> Iterator[str]:
    """A server at an end of the line, and the first line that it prints."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv_at(end, argv), stdin=pipe, stdout=pipe, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def output(end: End, argv: Sequence[str]) -> Any:
    """What a command at an end of the line prints, as JSON."""
    done = subprocess.run(argv_at(end, argv), check=True, stdout=subprocess.PIPE, text=True, timeout=120.0)
    return json.loads(done.stdout)


def iperf3(near: End, far: End, streams: int, seconds: int) -> float:
    """Goodput from near to far that iperf3's receiver counts, bit/s."""
    with running(far, ["iperf3", "--server", "--one-off", "--bind", far.address, "--interval", "0", "--forceflush"]):
        parallel = ["--parallel", str(streams), "--time", str(seconds), "--json"]
        found = output(near, ["iperf3", "--client", far.address, *parallel])
        return float(found["end"]["sum_received"]["bits_per_second"])


def puts(near: End, far: End, tls: tuple[str, str], streams: int, size: int, small_puts: int) -> dict[str, Any]:
    """What `send` measures, from near to far."""
    this = [sys.executable, __file__]
    with running(far, [*this, "serve", far.address, *tls]) as address:
        task = [address, tls[0], str(streams), str(size), str(small_puts)]
        found: dict[str, Any] = output(near, [*this, "send", *task])
        return found


def over_the_line(line: Line, streams: int, size: int, seconds: int, congestion: str | None) -> dict[str, Any]:
    """Both, over the emulated line."""
    with emulated_link(line) as (near, far), tempfile.TemporaryDirectory() as work:
        found = [congestion_control(end, congestion) for end in (near, far)]
        theirs = iperf3(near, far, streams, seconds)
        ours = puts(near, far, certificate(Path(work), far.address), streams, size, SMALL_PUTS)
    return {
        "congestion": found[0],
        **compared(theirs, size, ours["large_s"]),
        "ratio_when_open": compared(theirs, size, ours["again_s"])["ratio"],
        "latency_s": ours["latency_s"],
        "small_s": statistics.median(ours["small_s"]),
        "small_slowest_s": max(ours["small_s"]),
        "small_ideal_s": 2 * line.delay_s + SMALL_BYTES / line.bytes_per_s,
    }


def congestion_control(end: End, wanted: str | None) -> str:
    """TCP's at an end of the line, set first where one is wanted. Raises TenfoldError when the kernel has none such."""
    if wanted:
        argv = end.run(["sh", "-c", f'echo "$1" > {CONGESTION}', "sh", wanted])
        done = subprocess.run(argv, check=False, capture_output=True)
        if done.returncode:
            raise TenfoldError(f"--congestion {wanted}: the kernel does not allow it in a network namespace")
    return subprocess.run(end.run(["cat", CONGESTION]), check=True, capture_output=True, text=True).stdout.strip()


def over_the_loopback(streams: int) -> dict[str, Any]:
    """Both, on this machine."""
    size = LOOPBACK_MEGABYTES * 10**6
    theirs = iperf3(LOCAL, LOCAL, streams, LOOPBACK_SECONDS)
    return compared(theirs, size, puts(LOCAL, LOCAL, ("", ""), streams, size, 0)["large_s"])


def compared(theirs: float, size: int, seconds: float) -> dict[str, float]:
    """Bandwidths in Mbit/s, and their ratio."""
    ours = 8 * size / seconds
    return {"iperf3_mbit": theirs / 1e6, "put_mbit": ours / 1e6, "ratio": ours / theirs}


def certificate(work: Path, address: str) -> tuple[str, str]:
    """A certificate for an address, signed by itself, and its key."""
    files = str(work / "certificate.pem"), str(work / "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tenfold"
    where = ["-addext", f"subjectAltName=IP:{address}", "-out", files[0], "-keyout", files[1]]
    subprocess.run([*command.split(), *where], check=True, capture_output=True)
    return files


def what_is_missing() -> str | None:
    """Of what this benchmark needs; None when nothing is."""
    for tool in ("iperf3", "openssl"):
        if shutil.which(tool) is None:
            return f"no `{tool}` (package {tool})"
    return why_not()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--seconds", type=int, default=10, help="of iperf3")
    parser.add_argument("--mbit", type=float, default=20.0)
    parser.add_argument("--delay-ms", type=float, default=50.0, help="one way")
    parser.add_argument("--loss", type=float, default=0.01, help="share of the packets")
    parser.add_argument("--seed", type=int, default=1, help="of the packets that are lost")
    parser.add_argument("--congestion", help="TCP congestion control of both ends (default: this machine's)")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    if missing := what_is_missing():
        print(f"transport: {missing}", file=sys.stderr)
        sys.exit(2)
    line = Line(a.mbit, a.delay_ms / 1000, a.loss, seed=a.seed)
    try:
        over_line = over_the_line(line, a.streams, int(a.megabytes * 1e6), a.seconds, a.congestion)
    except TenfoldError as error:
        print(f"transport: {error}", file=sys.stderr)
        sys.exit(2)
    result = {"line": over_line, "loopback": over_the_loopback(a.streams)}
    if a.json:
        a.json.write_text(json.dumps(result, indent=2))
    print(json.dumps(result))
    sys.exit(over_line["ratio"] < GOAL)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", bind, certificate_file, key_file]:
            serve(bind, certificate_file, key_file)
        case ["send", address, root, streams, size, small_puts]:
            print(json.dumps(send(Task(address, root, int(streams), int(size), int(small_puts)))))
        case _:
            main()
