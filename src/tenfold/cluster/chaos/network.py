"""Two sites on one machine: network namespaces joined by a line of given bandwidth, delay and loss. Needs root.

Made with iproute2: ip-netns(8), tc-netem(8), tc-tbf(8).
"""

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from tenfold.errors import TenfoldError

Site = Literal["a", "b"]
SITES: tuple[Site, ...] = ("a", "b")
DEVICE = "wan"
ADDRESSES: dict[Site, str] = {"a": "10.77.0.1", "b": "10.77.0.2"}
PACKET_BYTES = 1500
FEWEST_PACKETS = 1000  # of a line's queue: netem's own default
NAMESPACES = Path("/run/netns")
NAME = re.compile(r"tenfold-(\d+)-\d+-[ab]")
_numbers = itertools.count()


def why_not(*, delays: bool = True) -> str | None:
    """What this machine lacks for `two_sites`, None when nothing; without `delays`: for one with bandwidth alone.

    It tries, since a container may have root and the tools and still not be allowed to.
    """
    if os.geteuid() != 0:
        return "not root"
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"no `{tool}` (package iproute2)"
    try:
        with two_sites(1000.0, delay_ms=1.0 if delays else 0.0, loss_percent=0.0):
            return None
    except TenfoldError as error:
        return str(error)


class Sites:
    """Two joined sites. Made by `two_sites`; each method raises TenfoldError when the kernel refuses."""

    def __init__(self, name: str, bandwidth_mbit: float, delay_ms: float, loss_percent: float) -> None:
        self._name = name
        self._shape = (bandwidth_mbit, delay_ms, loss_percent)

    def address(self, site: Site) -> str:
        """The IPv4 address that the other site reaches this one by."""
        return ADDRESSES[site]

    def run_in(self, site: Site, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that runs `argv` there."""
        return ("ip", "netns", "exec", self._namespace(site), *argv)

    def set(self, bandwidth_mbit: float, delay_ms: float, loss_percent: float) -> None:
        """Change the line, and restore it when it was cut: each way carries so many Mbit/s, arrives so much later and
        loses such a share of the packets. A round trip takes twice the delay."""
        self._shape = (bandwidth_mbit, delay_ms, loss_percent)
        self.restore()

    def cut(self) -> None:
        """No packet passes, and nobody is told: what a cut cable across an ocean looks like."""
        for site in SITES:
            # Packets larger than the bucket are dropped.
            self._replace(site, "tbf", "rate", "8bit", "burst", "14", "limit", "14")

    def restore(self) -> None:
        """End a cut."""
        for site in SITES:
            self._replace(site, *_shaping(*self._shape))

    def _make(self) -> None:
        near, far = (self._namespace(site) for site in SITES)
        for namespace in (near, far):
            _call("ip", "netns", "add", namespace)
        _call("ip", "link", "add", DEVICE, "netns", near, "type", "veth", "peer", "name", DEVICE, "netns", far)
        for site in SITES:
            ip = ("ip", "-n", self._namespace(site))
            _call(*ip, "address", "add", f"{ADDRESSES[site]}/24", "dev", DEVICE)
            _call(*ip, "link", "set", DEVICE, "up")
            _call(*ip, "link", "set", "lo", "up")
        self.restore()

    def _replace(self, site: Site, *queue: str) -> None:
        """A queue of another kind cannot replace one in place."""
        tc = ("tc", "-n", self._namespace(site), "qdisc")
        with suppress(TenfoldError):  # there is none yet
            _call(*tc, "delete", "dev", DEVICE, "root")
        _call(*tc, "add", "dev", DEVICE, "root", *queue)

    def _namespace(self, site: Site) -> str:
        return f"{self._name}-{site}"


def _shaping(bandwidth_mbit: float, delay_ms: float, loss_percent: float) -> tuple[str, ...]:
    """The queue of one end. netem holds all packets that are under way, so its limit is what the line can hold twice
    over; a line with no delay and no loss does with tbf, which more kernels have."""
    rate = f"{bandwidth_mbit * 1e6:.0f}bit"
    if not delay_ms and not loss_percent:
        burst = max(16 * PACKET_BYTES, int(bandwidth_mbit * 1e6 / 8 / 250))  # a tick of the slowest kernel clock, 4 ms
        return ("tbf", "rate", rate, "burst", str(burst), "latency", "50ms")
    under_way = bandwidth_mbit * 1e6 / 8 * delay_ms / 1e3 / PACKET_BYTES
    limit = max(FEWEST_PACKETS, int(2 * under_way))
    return ("netem", "delay", f"{delay_ms:g}ms", "loss", f"{loss_percent:g}%", "rate", rate, "limit", str(limit))


@contextmanager
def two_sites(bandwidth_mbit: float, delay_ms: float = 0.0, loss_percent: float = 0.0) -> Iterator[Sites]:
    """Sites "a" and "b" and the line between them, gone at the end, whatever it is.

    What an earlier process left behind, because it was killed, goes too. Raises TenfoldError with what the kernel said.
    """
    _sweep()
    name = f"tenfold-{os.getpid()}-{next(_numbers)}"
    sites = Sites(name, bandwidth_mbit, delay_ms, loss_percent)
    try:
        sites._make()
        yield sites
    finally:
        for site in SITES:
            _delete(f"{name}-{site}")


def _sweep() -> None:
    for path in NAMESPACES.glob("tenfold-*") if NAMESPACES.is_dir() else ():
        name = NAME.fullmatch(path.name)
        if name and not Path("/proc", name[1]).exists():
            _delete(path.name)


def _delete(namespace: str) -> None:
    if (NAMESPACES / namespace).exists():
        _call("ip", "netns", "delete", namespace)


def _call(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise TenfoldError(f"no `{command[0]}` (package iproute2)") from None
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split()) or f"status {error.returncode}"
        raise TenfoldError(f"`{' '.join(command)}`: {said}") from error
