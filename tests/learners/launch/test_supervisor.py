"""What a supervisor says while it waits, and what it does not obey."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tenfold.core.errors import InputError
from tenfold.learners.launch.commands import commands_folder, drop_command
from tenfold.learners.launch.supervisor import SILENCE_S, Supervisor, _Quiet
from tenfold.learners.messages import LearnerState, StatusReply
from tenfold.ledger import EventPayload, OrderRefused


class Stub(Supervisor):
    """A supervisor that has started nothing."""

    def __init__(self, folder: Path) -> None:
        self.warned, self.noted = list[str](), list[EventPayload]()
        self._run: Any = SimpleNamespace(folder=folder, directory=folder, syncers=["syncer"])
        self._console: Any = SimpleNamespace(warn=self.warned.append, say=self.warned.append)
        self._recorder: Any = SimpleNamespace(say=lambda what, message: self.noted.append(what))
        self._learners: Any = SimpleNamespace(running=[])
        self._kept, self._quiet, self.status = {}, _Quiet(), StatusReply()

    def _start_child(self, child: Any) -> None:
        raise AssertionError(f"started {child}")


@pytest.mark.parametrize("name", ["../../../evil", "a/b", "", ".x", "syncer-1", "x" * 101])
def test_an_order_whose_name_leads_elsewhere_is_not_obeyed(tmp_path: Path, name: str) -> None:
    supervisor = Stub(tmp_path)
    drop_command(commands_folder(tmp_path), {"what": "join", "name": name})
    supervisor._take_commands()
    assert [type(each) for each in supervisor.noted] == [OrderRefused]
    assert not list(tmp_path.parent.glob("evil*"))
    with pytest.raises(InputError, match="--name"):
        supervisor._obey({"what": "join", "name": name})


def test_a_run_whose_learners_have_left_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("tenfold.learners.launch.supervisor.time", SimpleNamespace(monotonic=lambda: now[0]))
    supervisor = Stub(tmp_path)
    gone = LearnerState(incarnation=1, state="left", reason="left", steps=4, tokens_per_second=0.0)
    supervisor.status = StatusReply(samples=40, total_samples=100, learners={"one": gone})
    for at in (100.0, 100.0 + SILENCE_S / 2, 101.0 + SILENCE_S, 102.0 + SILENCE_S, 103.0 + 2 * SILENCE_S):
        now[0] = at
        supervisor._say_whether_alone()
    assert len(supervisor.warned) == 2, "once in a while"
    assert (
        "no learner has trained for 31 s, 60 samples are left; start one: tenfold learner join" in supervisor.warned[0]
    )
    here = gone.model_copy(update={"state": "active"})
    supervisor.status = StatusReply(learners={"one": here})
    supervisor._say_whether_alone()
    now[0] += SILENCE_S / 2
    supervisor.status = StatusReply(learners={"one": gone})
    supervisor._say_whether_alone()
    assert len(supervisor.warned) == 2, "told from when it was there last"
