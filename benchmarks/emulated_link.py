"""A long, thin, lossy line between two network namespaces, made in user space: for kernels without netem. Needs root.

Each namespace has a TUN device (Linux, Documentation/networking/tuntap.rst); a process of its own carries the packets
from one to the other, late, no faster than the line, some of them not at all.
"""

import ctypes
import fcntl
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from tenfold.core.errors import TenfoldError

TUN = Path("/dev/net/tun")
NAMESPACES = Path("/run/netns")
DEVICE = "line"
ADDRESSES = ("10.78.0.1", "10.78.0.2")
LARGEST_PACKET = 65536
AT_A_TIME = 64  # packets read before others are due
# <linux/if_tun.h>, <sched.h>
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Line:
    """What a packet meets, the same both ways."""

    mbit: float = 20.0
    """Rate, Mbit/s."""
    delay_s: float = 0.05
    """One way."""
    loss: float = 0.01
    """Share of the packets, lost independently."""
    queue_bytes: int = 250_000
    """What waits before the line; what comes while it is full is dropped."""
    seed: int = 1
    """Of which packets are lost."""

    @property
    def bytes_per_s(self) -> float:
        return self.mbit * 1e6 / 8


@dataclass(frozen=True)
class End:
    """One end of the line."""

    namespace: str
    address: str

    def run(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` there."""
        return ["ip", "netns", "exec", self.namespace, *argv]


def why_not() -> str | None:
    """What this machine lacks for `emulated_link`; None when nothing. It tries: a container's root may not do all."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("ip") is None:
        return "no `ip` (package iproute2)"
    if not TUN.exists():
        return f"no {TUN}"
    try:
        with emulated_link(Line()):
            return None
    except TenfoldError as error:
        return str(error)


@contextmanager
def emulated_link(line: Line) -> Iterator[tuple[End, End]]:
    """Both ends of a line, gone when this ends. Raises TenfoldError with what the kernel said.

    What a killed process left behind goes at the next call.
    """
    _sweep()
    ends = tuple(End(f"line-{os.getpid()}-{n}", address) for n, address in enumerate(ADDRESSES))
    carrier = None
    try:
        for end in ends:
            _call("ip", "netns", "add", end.namespace)
        carrier = _start_carrier(ends, line)
        for end in ends:
            ip = ("ip", "-n", end.namespace)
            _call(*ip, "address", "add", f"{end.address}/24", "dev", DEVICE)
            _call(*ip, "link", "set", DEVICE, "up")
            _call(*ip, "link", "set", "lo", "up")
        yield ends[0], ends[1]
    finally:
        if carrier is not None:
            carrier.communicate()  # it ends when its input does
        for end in ends:
            _delete(end.namespace)


def _start_carrier(ends: Sequence[End], line: Line) -> subprocess.Popen[str]:
    argv = [sys.executable, __file__, *(end.namespace for end in ends), *map(str, astuple(line))]
    pipe = subprocess.PIPE
    carrier = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert carrier.stdout is not None
    if carrier.stdout.readline() != "ready\n":
        said = carrier.communicate()[1].strip().splitlines()
        raise TenfoldError(f"no TUN device: {said[-1] if said else 'the carrier ended'}")
    return carrier


def _sweep() -> None:
    for path in NAMESPACES.glob("line-*") if NAMESPACES.is_dir() else ():
        pid = path.name.split("-")[1]
        if pid.isdigit() and not Path("/proc", pid).exists():
            _delete(path.name)


def _delete(namespace: str) -> None:
    if (NAMESPACES / namespace).exists():
        _call("ip", "netns", "delete", namespace)


def _call(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise TenfoldError(f"`{' '.join(command)}`: {' '.join(done.stderr.split())}")


# The process that carries packets


class Way:
    """One direction: what is under way, in order, each with its time of arrival (s)."""

    def __init__(self, source: int, target: int, line: Line, seed: int) -> None:
        self.source, self._target, self._line = source, target, line
        self._random = random.Random(seed)
        self._free_at = 0.0
        self._under_way: deque[tuple[float, bytes]] = deque()

    @property
    def due(self) -> float:
        """When the next packet arrives; infinity when none is under way."""
        return self._under_way[0][0] if self._under_way else float("inf")

    def take(self, now: float) -> None:
        """Packets that have come."""
        for _ in range(AT_A_TIME):
            try:
                self._send(os.read(self.source, LARGEST_PACKET), now)
            except BlockingIOError:
                return

    def _send(self, packet: bytes, now: float) -> None:
        self._free_at = max(self._free_at, now)
        is_full = (self._free_at - now) * self._line.bytes_per_s + len(packet) > self._line.queue_bytes
        if self._random.random() < self._line.loss or is_full:
            return
        self._free_at += len(packet) / self._line.bytes_per_s
        self._under_way.append((self._free_at + self._line.delay_s, packet))

    def deliver(self, now: float) -> None:
        """Packets that are due."""
        while self.due <= now:
            with suppress(OSError):  # a device that is down or full: as good as lost
                os.write(self._target, self._under_way.popleft()[1])


def tun_in(namespace: str) -> int:
    """A TUN device, made in a namespace. Raises OSError. This thread is in that namespace from now on (setns(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (NAMESPACES / namespace).open() as where:
        if libc.setns(where.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")
    device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return device


def carry(near: str, far: str, line: Line) -> None:
    """Carry packets until standard input ends."""
    one, other = tun_in(near), tun_in(far)
    ways = (Way(one, other, line, line.seed), Way(other, one, line, line.seed + 1))
    print("ready", flush=True)
    stop = sys.stdin.fileno()
    while True:
        wait = max(0.0, min(1.0, *(way.due - time.monotonic() for way in ways)))
        ready = select.select([stop, one, other], [], [], wait)[0]
        if stop in ready:
            return
        for way in ways:
            if way.source in ready:
                way.take(time.monotonic())
            way.deliver(time.monotonic())


if __name__ == "__main__":
    mbit, delay_s, loss, queue_bytes, seed = sys.argv[3:]
    carry(sys.argv[1], sys.argv[2], Line(float(mbit), float(delay_s), float(loss), int(queue_bytes), int(seed)))
