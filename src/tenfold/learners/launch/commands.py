"""Commands to a running supervisor: JSON files dropped in a directory, which it polls.

Nothing here imports torch: whoever asks for a fault or a learner does not wait for that.
"""

import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenfold.config import SYNCER
from tenfold.core import CampaignFiles, InputError, TenfoldError, write_json, write_text
from tenfold.learners.fields import LEARNER_NAME

REFUSED_SUFFIX, ANSWER_SUFFIX = ".refused", ".answer"
LOOK_S = 0.05
PATIENCE_S = 5.0  # a supervisor looks many times a second


@dataclass(frozen=True)
class Command:
    """A command that was taken."""

    path: Path
    """Where it lay."""
    what: dict[str, Any]


def send_command(campaign: Path, command: dict[str, Any]) -> dict[str, Any]:
    """Send a command to the `tenfold train` of a campaign; what was sent, and "none yet" where no answer came.

    Raises InputError when none takes it, or when it is refused.
    """
    folder = commands_folder(CampaignFiles(campaign).learners)
    path = drop_command(folder, command) if folder.parent.is_dir() else None
    if path is None or not is_taken(path, PATIENCE_S):
        raise InputError(f"{campaign}: no `tenfold train` of several learners is going on here")
    refusal = await_answer(path, PATIENCE_S)
    if refusal:
        raise InputError(f"{campaign}: {refusal}")
    return {"ordered": command["what"]} | ({"answer": "none yet"} if refusal is None else {})


def commands_folder(learners: Path) -> Path:
    """Where commands are dropped, in the folder of syncer and learners."""
    return learners / "commands"


def check_name(name: str) -> str:
    """A learner's name is a folder's name. Raises InputError when it cannot be one."""
    if not LEARNER_NAME.fullmatch(name):
        raise InputError(f"--name {name[:120]!r}: letters, digits, '-', '_' and '.' only, at most 100")
    if name.startswith(SYNCER):
        raise InputError(f"--name {name!r}: names that begin with {SYNCER!r} are those of its processes")
    return name


def drop_command(directory: Path, command: dict[str, Any]) -> Path:
    """Put one command where the supervisor looks, whole or not at all. Raises TenfoldError when the disk refuses."""
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"  # names sort by age
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TenfoldError(f"{directory}: a command cannot be written ({error.strerror})") from error
    write_json(directory / name, command, durable=False)
    return directory / name


def is_taken(command: Path, patience: float) -> bool:
    """Whether a supervisor took the command within so many seconds; one that nobody takes is taken back."""
    deadline = time.monotonic() + patience
    while command.exists() and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    try:
        command.unlink()
    except FileNotFoundError:
        return True
    return False


def await_answer(command: Path, patience: float) -> str | None:
    """Why a command that was taken is refused: empty when it is obeyed, None when nothing is heard for so long."""
    deadline, path = time.monotonic() + patience, _answer_of(command)
    while not path.exists():
        if time.monotonic() > deadline:
            return None
        time.sleep(LOOK_S)
    refusal = path.read_text(encoding="utf-8")
    path.unlink(missing_ok=True)
    return refusal


def answer_command(command: Command, refusal: str = "") -> None:
    """Tell whoever sent it: obeyed, or why not. A disk that refuses leaves them without an answer."""
    with suppress(TenfoldError):
        write_text(_answer_of(command.path), refusal, durable=False)


def _answer_of(command: Path) -> Path:
    return command.with_name(command.name + ANSWER_SUFFIX)


def clear_commands(directory: Path) -> None:
    """Forget what was asked of a supervisor that is gone."""
    for path in (*_waiting(directory), *directory.glob(f"*{ANSWER_SUFFIX}")):
        path.unlink(missing_ok=True)


def take_commands(directory: Path, report: Callable[[str], None]) -> list[Command]:
    """Take every command out of the directory, oldest first. Never raises for what others put there.

    What is no JSON object is set aside as `*.refused`, and `report` gets one line on it.
    """
    commands = []
    for path in _waiting(directory):
        try:
            command = _read(path)
            path.unlink()  # before it is obeyed: a command that cannot be deleted would be obeyed again and again
        except (OSError, ValueError, RecursionError) as error:
            report(f"{path}: not a command ({error}); {_set_aside(path)}")
        else:
            commands.append(Command(path, command))
    return commands


def _waiting(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    except OSError:  # not made yet
        return []


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():  # a pipe would be waited for
        raise ValueError("it is not a file")
    command = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(command, dict):
        raise ValueError("it is not a JSON object")
    return command


def _set_aside(path: Path) -> str:
    target = path.with_name(path.name + REFUSED_SUFFIX)
    try:
        path.replace(target)
    except OSError as error:
        return f"it cannot be set aside either ({error.strerror})"
    return f"set aside as {target.name}"
