"""Processes that start at once: forked off one that has imported everything already.

Importing torch and the rest takes seconds of computing, which on a small machine are taken from the processes that are
still alive. The fork server pays them once. What it forks becomes a child of the supervisor (PR_SET_CHILD_SUBREAPER),
so supervision does not know the difference. Linux only; elsewhere, and when the server dies, processes start the usual
way.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
STARTING_S = 60.0
LARGEST_REQUEST = 1024 * 1024
SOCKET_VARIABLE = "TENFOLD_FORK_SERVER_SOCKET"


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


class ForkServer:
    """The supervisor's end. Start it early: it is ready some seconds later."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` runs `serve_forks` after importing what its children will need."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        if sys.platform != "linux" or ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**os.environ, SOCKET_VARIABLE: str(theirs.fileno())}
        self._process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        ours.settimeout(STARTING_S)
        self._socket = ours

    def close(self) -> None:
        """No more forks; those made live on."""
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

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


def serve_forks(main: Callable[[], object]) -> None:
    """The fork server's loop: fork on request, until the supervisor is gone. `main` reads sys.argv."""
    connection = socket.socket(fileno=int(os.environ.pop(SOCKET_VARIABLE)))
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, LARGEST_REQUEST, 2)
        if not message:
            return
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
    status = 1
    try:
        main()
        status = 0
    except SystemExit as error:
        status = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
