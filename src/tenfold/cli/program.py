"""The program: its verbs in the order of a campaign, and every error as one line and an exit status."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer

from tenfold.cli import learners, metrics, plan, verbs, watching
from tenfold.core import InputError, Interrupted, NotFinite, TenfoldError, without_secrets

app = typer.Typer(
    name="tenfold",
    help="Carry a language-model pretraining run from a forecast to a finished, evaluated, explained model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

OUT_OF_MEMORY = "error: out of memory; lower train.micro_batch, or model.width, model.depth or model.context"
OUT_OF_MEMORY_ELSEWHERE = "error: out of memory; close other programs, or give this one more"
TRAINS = frozenset({"run", "train", "ladder", "derisk", "predict", "worker", "learner"})
"""Commands that train, or score in the batches of training; the others take no advice about its batches."""
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What the command-line library raises for words it cannot take; its home differs between versions of the library."""
NO_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory")  # torch says it in each of these

app.command()(verbs.init)
app.command()(verbs.run)
app.add_typer(verbs.data_app)
app.command()(verbs.ladder)
app.command()(verbs.predict)
app.command()(verbs.derisk)
app.add_typer(plan.app)
app.command()(verbs.train)
app.add_typer(learners.learner_app)
app.command()(learners.syncer)
app.command()(learners.chaos)
app.command()(watching.watch)
app.command(name="eval")(verbs.evaluate)
app.command()(watching.incidents)
app.command()(watching.reliability)
app.add_typer(metrics.metrics_app)
app.command()(verbs.report)
app.command()(verbs.export)
app.command()(verbs.doctor)


@app.command(hidden=True)
def worker(task: Path) -> None:
    """Body of a worker process of the ladder."""
    from tenfold.campaign import run_worker

    run_worker(task)


@app.command(hidden=True)
def fork_server() -> None:
    """Body of the process that learners are forked off."""
    from tenfold.campaign import run_fork_server

    run_fork_server(main)


class _Stopped(BaseException):
    """SIGINT or SIGTERM outside training. No KeyboardInterrupt: the command-line library would swallow it."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # once is enough: what ends now must end in order
    raise _Stopped


def _out_of_memory() -> str:
    return OUT_OF_MEMORY if TRAINS & set(sys.argv[1:2]) else OUT_OF_MEMORY_ELSEWHERE


def main() -> None:
    """Entry point: turns every error tenfold raises on purpose into one line and an exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        sys.exit(app(standalone_mode=False))
    except UsageError as error:
        _fail(_usage_line(error), InputError.exit_code)
    except Interrupted as error:
        _fail(str(error), error.exit_code)
    except InputError as error:
        _fail(f"error: {error}", error.exit_code)
    except TenfoldError as error:
        _fail(f"error: {error}", error.exit_code, of_one_rank=not isinstance(error, NotFinite))
    except _Stopped:
        _fail("interrupted; nothing that was finished is lost, run the same command again to go on", 130)
    except MemoryError:
        _fail(_out_of_memory(), 1, of_one_rank=True)
    except OSError as error:
        _fail(f"error: {error.filename or 'input/output'}: {error.strerror or error}", 1, of_one_rank=True)
    except RuntimeError as error:
        if not any(words in str(error) for words in NO_MEMORY_WORDS):
            raise
        _fail(_out_of_memory(), 1, of_one_rank=True)


def _usage_line(error: Any) -> str:
    """What is wrong with the words of a command, and the command that lists what is allowed."""
    command = error.ctx.command_path if error.ctx else app.info.name
    return f"error: {command}: {error.format_message().rstrip('.')}; see `{command} --help`"


def _fail(line: str, status: int, *, of_one_rank: bool = False) -> NoReturn:
    """End with one line. What all ranks meet alike is said by the first; what may be `of_one_rank`, by that one.

    A value that is refused may be a URL with its password, so no line shows one.
    """
    rank, line = os.environ.get("RANK", "0"), without_secrets(line)
    if rank == "0" or of_one_rank:
        print(line if rank == "0" else f"rank {rank}: {line}", file=sys.stderr)
    sys.exit(status)
