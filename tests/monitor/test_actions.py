"""Actions: nothing without a rule, once for an incident, told as events, and a failing one harms nothing."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tenfold.config import Action, Campaign
from tenfold.core import InputError
from tenfold.ledger import ActionTaken, LossNotFinite, ObserverFailed
from tenfold.monitor.actions import Actions, check_actions
from tenfold.train import LoopRequest, Notice, Observer, Observers, Stopping, execute
from tests.train.small import batch_of, new_state

INCIDENT = LossNotFinite(7, 40, 47)


class Diary(Observer):
    def __init__(self) -> None:
        self.told: list[Notice] = []

    def noticed(self, notice: Notice) -> None:
        self.told.append(notice)

    @property
    def actions(self) -> list[ActionTaken]:
        return [notice.what for notice in self.told if isinstance(notice.what, ActionTaken)]


def rule(**values: object) -> Action:
    return Action.model_validate({"on": ["not-finite"], **values})


def followed(*rules: Action, times: int = 1, incident: LossNotFinite = INCIDENT) -> tuple[Diary, Observers]:
    """What was told, and the observers, after the incident was told so often."""
    diary = Diary()
    observers = Observers([Actions(list(rules), {"campaign": "small"}), diary])
    execute(new_state(), batch_of(8), observers)
    for _ in range(times):
        observers.noticed(Notice(incident, "it went wrong"))
    return diary, observers


class Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Hook)
    server.got, server.status = [], 200  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_without_a_rule_nothing_is_done() -> None:
    diary, observers = followed()
    assert diary.actions == [] and observers.take_request() == LoopRequest()


@pytest.mark.parametrize(
    ("do", "request_"),
    [("checkpoint", LoopRequest(save=True)), ("pause", LoopRequest(stop=True)), ("rewind", LoopRequest(back_to=7))],
)
def test_what_all_ranks_must_do_is_asked_of_the_loop_once(do: str, request_: LoopRequest) -> None:
    diary, observers = followed(rule(do=do), times=3)
    assert observers.take_request() == request_ and observers.take_request() == LoopRequest()
    assert diary.actions == [ActionTaken(do, "not-finite 7", 9)]
    assert [notice.message for notice in diary.told].count(f"{do}, since it went wrong") == 1


def test_a_rule_is_followed_no_more_often_than_it_may() -> None:
    diary, observers = followed(rule(do="checkpoint", most=2))
    for step in range(8, 12):
        observers.noticed(Notice(LossNotFinite(step), "again"))
    assert [action.incident for action in diary.actions] == ["not-finite 7", "not-finite 8"]


def test_rewinds_of_one_rule_leave_out_more_each_time_also_when_the_step_comes_again() -> None:
    _, observers = followed(rule(do="rewind", most=4))
    asked = [observers.take_request()]
    for _ in range(4):
        observers.resumed(5, None)  # type: ignore[arg-type]
        observers.noticed(Notice(INCIDENT, "it went wrong"))
        asked.append(observers.take_request())
    assert [(request.back_to, request.beyond) for request in asked] == [(7, 0), (7, 8), (7, 16), (7, 32), (0, 0)]


def test_how_often_a_rule_was_followed_outlives_the_process_and_a_way_back() -> None:
    _, observers = followed(rule(do="checkpoint", most=1))
    saved = observers.state_dict()
    diary = Diary()
    later = Observers([Actions([rule(do="checkpoint", most=1)], {}), diary])
    later.load_state_dict(saved)
    later.resumed(9, None)  # type: ignore[arg-type]
    later.noticed(Notice(LossNotFinite(12), "another"))
    observers.load_state_dict(Observers([Actions([rule(do="checkpoint")], {})]).state_dict())
    observers.noticed(Notice(LossNotFinite(13), "one more"))
    assert diary.actions == [] and observers.take_request() == LoopRequest(save=True)
    assert observers.take_request() == LoopRequest()


def test_an_incident_from_before_the_checkpoint_is_not_acted_on_again_after_it() -> None:
    _, observers = followed(rule(do="checkpoint", most=9))
    saved, diary = observers.state_dict(), Diary()
    later = Observers([Actions([rule(do="checkpoint", most=9)], {}), diary])
    later.load_state_dict(saved)
    later.resumed(9, None)  # type: ignore[arg-type]
    later.noticed(Notice(INCIDENT, "told again"))
    assert diary.actions == []


def test_a_rule_may_be_about_a_severity_and_is_about_nothing_else() -> None:
    diary, observers = followed(Action(on=["critical"], do="checkpoint"))
    observers.noticed(Notice(ObserverFailed("x"), "only a warning"))
    assert [action.incident for action in diary.actions] == ["not-finite 7"]


def test_a_webhook_gets_the_incident_as_json(hook: HTTPServer) -> None:
    diary, observers = followed(rule(do="webhook", url=f"http://127.0.0.1:{hook.server_port}/secret"), times=2)
    observers.stopping(Stopping("done", 9))
    (got,) = hook.got  # type: ignore[attr-defined]
    assert got["campaign"] == "small" and got["step"] == 9
    assert got["incident"] == {
        "kind": "not-finite",
        "severity": "critical",
        "message": "it went wrong",
        "data": {"step": 7, "first_sample": 40, "last_sample": 47},
    }
    assert diary.actions == [ActionTaken("webhook", "not-finite 7", 9)]


def test_a_webhook_that_fails_is_told_without_its_address(hook: HTTPServer) -> None:
    hook.status = 500  # type: ignore[attr-defined]
    diary, observers = followed(rule(do="webhook", url=f"http://127.0.0.1:{hook.server_port}/secret"))
    observers.stopping(Stopping("done", 9))
    (action,) = diary.actions
    assert action.error is not None and "500" in action.error
    assert "secret" not in diary.told[-1].message and "secret" not in action.error


def test_a_command_gets_it_on_its_standard_input_and_no_shell_reads_it(tmp_path: Path) -> None:
    program = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read() + sys.argv[2])"
    out = tmp_path / "told"
    diary, observers = followed(rule(do="command", command=[sys.executable, "-c", program, str(out), "; rm -rf $HOME"]))
    observers.stopping(Stopping("done", 9))
    assert '"not-finite"' in out.read_text() and out.read_text().endswith("; rm -rf $HOME")
    assert diary.actions == [ActionTaken("command", "not-finite 7", 9)]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([sys.executable, "-c", "import sys; sys.exit('no such channel')"], "status 1: no such channel"),
        (["/nowhere/at/all"], "No such file"),
    ],
)
def test_a_command_that_fails_is_told_and_harms_nothing(command: list[str], said: str) -> None:
    diary, observers = followed(rule(do="command", command=command))
    observers.stopping(Stopping("done", 9))
    (action,) = diary.actions
    assert said in (action.error or "") and len(list(observers)) == 2


def test_a_rule_about_no_incident_there_is_names_those_there_are() -> None:
    with pytest.raises(InputError, match=r"actions.0.on: no incident is called 'loss-spikes'; kinds .*not-finite"):
        check_actions([Action(on=["loss-spikes"], do="pause")])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"do": "webhook"}, "takes a `url`"),
        ({"do": "pause", "url": "https://example.org"}, "takes no `url`"),
        ({"do": "command", "command": []}, "at least 1"),
        ({"do": "webhook", "url": "file:///etc/passwd"}, "pattern"),
        ({"do": "rewind", "command": ["x"]}, "takes no `command`"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Campaign.model_validate({"watch": {"actions": [{"on": ["critical"], **values}]}})
