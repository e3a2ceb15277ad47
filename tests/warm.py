"""`tenfold …` in a process of its own that starts at once: forked off one that has imported everything already.

Importing costs some four seconds of computing, in a process whose work takes one; a suite with two hundred such
processes spends most of its time so. What is forked is a child of the test's process, with its own pid, session, pipes
and end: it can be killed, frozen and waited for as any other. What depends on how a process starts (its environment
before torch is loaded, what it imports) is tested with `cold=True`, as every test is where there is no Linux.
"""

import atexit
import ctypes
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tenfold.core import fork_server
from tests.waiting import until

ROOT = Path(__file__).parents[1]
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
LARGEST_REQUEST = 1024 * 1024
PRELOADED = ("torch.distributed.fsdp", "tenfold.campaign.commands", "tenfold.learners.anyone.outer_loop")
READ_AT_START = {"ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONPATH", "PYTHONHASHSEED"}


def start(
    words: Sequence[str],
    *,
    cold: bool = False,
    env: Mapping[str, str] | None = None,
    modules: tuple[str, ...] = (),
    **how: Any,
) -> Any:
    """Start `tenfold WORDS`, or the Python program that the first word names, with what subprocess.Popen takes.

    `modules` are what it needs beyond tenfold: each set of them has a process of its own to fork off.
    """
    environment = dict(os.environ if env is None else env)
    changed = {key for key in READ_AT_START if environment.get(key) != os.environ.get(key)}
    command = [sys.executable, *(words if words[0].endswith(".py") else ("-m", "tenfold", *words))]
    if cold or changed or sys.platform != "linux":
        return subprocess.Popen(command, env=environment, **how)
    return _Forked(command, modules=modules, env=environment, **how)


def run(words: Sequence[str], *, check: bool = False, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run `tenfold WORDS` to its end; what it printed is text."""
    with start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how) as process:
        out, err = process.communicate()
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        assert done.returncode == 0, err
    return done


def run_ranks(words: Sequence[str], count: int = 2) -> list[str]:
    """Run it as `count` ranks of one group, as torchrun starts them; what each printed. All must end well."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # of the group, as torchrun's agent has it
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    with ExitStack() as stack:
        logs = [stack.enter_context(TemporaryFile("w+")) for _ in range(count)]
        ranks = []
        for rank, log in enumerate(logs):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            ranks.append(start(words, env=os.environ | shared | own, stdout=log, stderr=log))
            stack.callback(ranks[-1].wait)
            stack.callback(ranks[-1].kill)
        until(lambda: any(rank.poll() for rank in ranks) or all(rank.poll() is not None for rank in ranks))
        for log in logs:
            log.seek(0)
        said = [log.read() for log in logs]
        assert [rank.poll() for rank in ranks] == [0] * count, said
    return said


class _Forked(subprocess.Popen[Any]):
    """A Popen whose process the server forks instead of this one."""

    def __init__(self, args: Sequence[str], *, modules: tuple[str, ...], **how: Any) -> None:
        self._modules = modules
        super().__init__(args, **how)

    def _execute_child(self, args: Sequence[str], *rest: Any) -> None:
        (_executable, _preexec, _close, pass_fds, cwd, env, _startup, _flags, _shell, *pipes) = rest[:15]
        start_new_session = rest[20]
        assert not pass_fds
        stdin, _, _, stdout, _, stderr = pipes
        request = {
            "words": list(args[1:]),
            "environment": env,
            "cwd": str(cwd or Path.cwd()),
            "session": bool(start_new_session),
        }
        descriptors = [own if end == -1 else end for own, end in enumerate((stdin, stdout, stderr))]
        self.pid = _server(*self._modules).fork(request, descriptors)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class _Server:
    """The process that has imported everything, and the socket on which it is asked to fork."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(theirs.fileno()), *modules],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd=ROOT,
        )
        theirs.close()
        atexit.register(self._end)

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()

    def fork(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """The pid of a new child of ours. Orphans come to us only meanwhile: tests look at what becomes of others."""
        prctl = ctypes.CDLL(None).prctl
        assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(descriptors))
            return int(self._socket.recv(64))
        finally:
            prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@cache
def _server(*modules: str) -> _Server:
    return _Server(modules)


def _serve(connection: socket.socket) -> None:
    """Fork on request, until nobody can ask any more."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, LARGEST_REQUEST, 3)
        if not message:
            return
        request = json.loads(message)
        pid_out, pid_in = os.pipe()
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid:
                os.write(pid_in, str(pid).encode())
                os._exit(0)
            connection.close()
            os.close(pid_out)
            os.close(pid_in)
            _become(request, descriptors)
        for descriptor in (*descriptors, pid_in):
            os.close(descriptor)
        os.waitpid(between, 0)  # from now on it is a child of who asks
        connection.send(os.read(pid_out, 64))
        os.close(pid_out)


def _become(request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Be `tenfold WORDS`, or the program, and end as it does."""
    if request["session"]:
        os.setsid()
    for own, descriptor in enumerate(descriptors):
        os.dup2(descriptor, own)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    fork_server.note_fork()  # it has computed nothing yet, as a process that begins
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 1
    try:
        _main(request["words"])
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _main(words: list[str]) -> None:
    from tenfold.cli import main

    if words[:2] == ["-m", "tenfold"]:
        sys.argv = ["tenfold", *words[2:]]
        main()
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    from tenfold.train import make_deterministic

    for name in (*PRELOADED, *sys.argv[2:]):
        importlib.import_module(name)
    make_deterministic(1)  # loads the compiler, which is the other half of a second
    _serve(socket.socket(fileno=int(sys.argv[1])))
