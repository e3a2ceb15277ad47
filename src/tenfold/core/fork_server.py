"""Processes that start at once: forked off one that has imported everything already.

Importing torch and the rest takes seconds of computing, which on a small machine are taken from the processes that are
still alive. The fork server pays them once; where the supervisor could fork it off itself (`fork_early`), nothing is
imported twice. What it forks becomes a child of the supervisor (PR_SET_CHILD_SUBREAPER), so supervision does not know
the difference. Linux only; elsewhere, and when the server dies, processes start the usual way.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, NoReturn

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
STARTING_S = 60.0
LARGEST_REQUEST = 1024 * 1024
SOCKET_VARIABLE = "TENFOLD_FORK_SERVER_SOCKET"
GET_READY = b"get ready"
COMPUTES = "torch"
"""The module whose threads, devices and random numbers a fork must not inherit half used."""


@dataclass
class _Here:
    """What there is of fork servers in this process."""

    is_fork: bool = False
    """It was forked off one: it has imported everything and computed nothing, as a process that begins."""
    early: tuple[int, socket.socket] | None = None
    """Process and socket of a server that `fork_early` made and nobody has taken yet."""


_here = _Here()


class ForkedProcess:
    """As much of subprocess.Popen as supervision needs, of a process that somebody else forked for us."""

    def __init__(self, pid: int, stdin: IO[bytes]) -> None:
        self.pid, self.stdin = pid, stdin
        self.returncode: int | None = None

    def wait(self) -> int:
        """Its return code, negative for a signal, once it has ended."""
        if self.returncode is None:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def is_fresh() -> bool:
    """Whether this process has computed nothing yet. Ask before importing what computes."""
    return _here.is_fork or COMPUTES not in sys.modules


def note_fork() -> None:
    """This process has just been forked off one that has imported everything and computed nothing."""
    _here.is_fork, _here.early = True, None


def fork_early(serve: Callable[[], object]) -> None:
    """Fork a server off this process, for the next `ForkServer`; call it in a fresh process that has imported all.

    `serve` is `serve_forks` with its arguments. The server ends with this process. Does nothing where a fork could
    inherit a thread half way, or a file that somebody locks: call it first of all.
    """
    if sys.platform != "linux" or threading.active_count() > 1 or _here.early is not None:
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.setsid()
        os.environ[SOCKET_VARIABLE] = str(theirs.fileno())
        _end_with_status_of(serve)
    theirs.close()
    _here.early = (pid, ours)


class ForkServer:
    """The supervisor's end. Start it early: it is ready some seconds later."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` runs `serve_forks` after importing what its children will need; a server forked early is taken."""
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._socket: socket.socket | None = None
        if sys.platform != "linux" or ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            return
        self._pid, self._socket = _here.early or _started(command)
        _here.early = None
        self._socket.settimeout(STARTING_S)
        with suppress(OSError):  # one that has died is found out at the first fork
            self._socket.send(GET_READY)

    def close(self) -> None:
        """No more forks; those made live on."""
        if self._socket is not None:
            self._socket.close()
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = None

    def fork(self, command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> ForkedProcess | None:
        """Run `tenfold …` (the words after `-m tenfold`) in a fork; None when that is not possible (any more)."""
        with self._lock:
            if self._socket is None:
                return None
            read_end, write_end = os.pipe()
            try:
                request = json.dumps({"argv": list(command), "environment": dict(environment)}).encode()
                socket.send_fds(self._socket, [request], [read_end, log.fileno()])
                answer = self._socket.recv(64)
                if not answer:
                    raise OSError("the fork server is gone")
                return ForkedProcess(int(answer), os.fdopen(write_end, "wb", buffering=0))
            except (OSError, ValueError):
                os.close(write_end)
                self._socket.close()
                self._socket = None
                return None
            finally:
                os.close(read_end)


def _started(command: Sequence[str]) -> tuple[int, socket.socket]:
    """Process and socket of a server that begins from nothing."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {**os.environ, SOCKET_VARIABLE: str(theirs.fileno())}
    process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], start_new_session=True)
    process.returncode = 0  # `close` waits for it, not the destructor
    theirs.close()
    return process.pid, ours


def serve_forks(main: Callable[[], object], get_ready: Callable[[], object] = lambda: None) -> None:
    """The fork server's loop: fork on request, until the supervisor is gone. `main` reads sys.argv.

    `get_ready` is called once, when a supervisor has taken the server.
    """
    connection = socket.socket(fileno=int(os.environ.pop(SOCKET_VARIABLE)))
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, LARGEST_REQUEST, 2)
        if not message:
            return
        if message == GET_READY:
            get_ready()
            continue
        request = json.loads(message)
        pid_out, pid_in = os.pipe()
        between = os.fork()
        if between == 0:
            _fork_and_vanish(connection, request, descriptors, pid_in, main)
        for descriptor in (*descriptors, pid_in):
            os.close(descriptor)
        os.waitpid(between, 0)  # from now on the supervisor is the parent of what was forked
        connection.send(os.read(pid_out, 64))
        os.close(pid_out)


def _fork_and_vanish(
    connection: socket.socket,
    request: dict[str, Any],
    descriptors: Sequence[int],
    pid_in: int,
    main: Callable[[], object],
) -> None:
    """In the process in between: fork once more, say which, and end, so that the supervisor inherits the child."""
    pid = os.fork()
    if pid:
        os.write(pid_in, str(pid).encode())
        os._exit(0)
    os.close(pid_in)
    os.setsid()
    connection.close()
    stdin, log = descriptors
    os.dup2(stdin, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(request["environment"])
    sys.argv = ["tenfold", *request["argv"]]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    note_fork()
    _end_with_status_of(main)


def _end_with_status_of(main: Callable[[], object]) -> NoReturn:
    """End this process as the interpreter would after `main`, but for what was to be done at the exit of its parent."""
    status = 1
    try:
        main()
        status = 0
    except SystemExit as error:
        status = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
