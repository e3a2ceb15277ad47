"""What the configuration allows to be done about incidents. Detecting is not acting: without a rule nothing is done.

Every action is an event of the ledger with its reason, and done once for an incident however often it is told.
"""

import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from tenfold.config import Action
from tenfold.core import InputError, without_secrets
from tenfold.ledger import ActionTaken, IncidentKind, IncidentPayload, Severity
from tenfold.train import LoopRequest, Notice, Observer, StepMeasure

FIRST_BEYOND = 8
"""Batches after now that the second rewind of a rule leaves out as well; each later one twice as many as the last."""
TIMEOUT_S = 30.0
"""How long a webhook or a command may take before it is given up."""


def check_actions(actions: list[Action]) -> None:
    """Raises InputError for a rule about incidents that there are none of."""
    known = [*map(str, IncidentKind), *map(str, Severity)]
    for number, action in enumerate(actions):
        if unknown := [name for name in action.on if name not in known]:
            raise InputError(
                f"watch.actions.{number}.on: no incident is called {', '.join(map(repr, unknown))}; "
                f"kinds and severities are {', '.join(known)}"
            )


class Actions(Observer):
    """Does what the rules allow, on the first rank; what all ranks must do is asked of the loop.

    Webhooks and commands run in a thread of their own, so that a slow one never holds a step up.
    """

    name = "actions"

    def __init__(self, rules: list[Action], facts: Mapping[str, Any]) -> None:
        """`facts`: what a webhook or command is told beside the incident, such as the campaign's name."""
        check_actions(rules)
        self._rules, self._facts = rules, dict(facts)
        self._followed = [0] * len(rules)
        """How often each rule was followed in this run."""
        self._acted: set[tuple[int, str, int | None]] = set()
        """Rule, cause and first step of what was acted on."""
        self._step = 0
        self._results: list[tuple[ActionTaken, str]] = []
        self._threads: list[threading.Thread] = []

    def started(self, step: int) -> None:
        self._step = step

    def resumed(self, step: int, checkpoint: object) -> None:
        """What comes after a checkpoint comes anew: incidents of the same step number are others."""
        self._step = step
        self._acted = {each for each in self._acted if each[2] is not None and each[2] <= step}

    def after_step(self, measure: StepMeasure) -> None:
        self._step = measure.step
        self._tell_results()

    def stopping(self, stopping: object) -> None:
        for thread in self._threads:
            thread.join(TIMEOUT_S)
        self._tell_results()

    def noticed(self, notice: Notice) -> None:
        if isinstance(notice.what, IncidentPayload):
            self.incident(notice.what, notice.message)

    def incident(self, what: IncidentPayload, message: str) -> None:
        """Follow every rule for an incident that has opened, or do nothing where that was done before."""
        for number, rule in enumerate(self._rules):
            incident = (number, what.cause, first_step_of(what))
            wanted = {what.kind.value, what.severity.value} & set(rule.on)
            if wanted and incident not in self._acted and self._followed[number] < rule.most:
                self._acted.add(incident)
                self._followed[number] += 1
                self._follow(rule, what, message, self._followed[number])

    def state_dict(self) -> dict[str, Any]:
        return {"followed": self._followed, "acted": sorted(map(list, self._acted), key=str)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the counts of the life before; a run that went back keeps its own, which are higher."""
        if len(state["followed"]) == len(self._followed):  # the same rules, as far as their number says
            self._followed = [max(pair) for pair in zip(self._followed, state["followed"], strict=True)]
            self._acted |= {(number, cause, step) for number, cause, step in state["acted"]}

    def _follow(self, rule: Action, what: IncidentPayload, message: str, times: int) -> None:
        """`times`: how often the rule has been followed with this one."""
        match rule.do:
            case "checkpoint":
                self.ask(LoopRequest(save=True))
            case "pause":
                self.ask(LoopRequest(stop=True))
            case "rewind":
                beyond = FIRST_BEYOND << (times - 2) if times > 1 else 0
                self.ask(LoopRequest(back_to=max(1, first_step_of(what) or self._step), beyond=beyond))
            case "webhook" | "command":
                self._outside(rule, what, message)
                return
        self.notice(self._taken(rule, what), f"{rule.do}, since {message}")

    def _taken(self, rule: Action, what: IncidentPayload, error: str | None = None) -> ActionTaken:
        return ActionTaken(rule.do, what.cause, self._step, error)

    def _outside(self, rule: Action, what: IncidentPayload, message: str) -> None:
        record = {"kind": what.kind, "severity": what.severity, "message": message, "data": what.to_dict()}
        body = json.dumps(self._facts | {"step": self._step, "incident": record}).encode()
        act = _post if rule.do == "webhook" else _run

        def work() -> None:
            error = act(rule, body)
            said = f"{rule.do}, since {message}" if error is None else f"{rule.do} failed: {error}"
            self._results.append((self._taken(rule, what, error), said))

        thread = threading.Thread(target=work, name=f"action-{rule.do}", daemon=True)
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        thread.start()

    def _tell_results(self) -> None:
        """What the threads have done is told by the training thread, which owns ledger and console."""
        while self._results:
            self.notice(*self._results.pop(0))


def first_step_of(what: IncidentPayload) -> int | None:
    """The step at which an incident began, where its kind says one."""
    data = what.to_dict()
    found = data.get("first_step", data.get("step"))
    return None if found is None else int(found)


def _post(rule: Action, body: bytes) -> str | None:
    """What went wrong; a webhook's address may hold a secret, so it is never part of it."""
    assert rule.url
    request = urllib.request.Request(rule.url, body, {"Content-Type": "application/json"}, method="POST")
    return _attempt(lambda: urllib.request.urlopen(request, timeout=TIMEOUT_S).close())


def _run(rule: Action, body: bytes) -> str | None:
    assert rule.command
    command = rule.command
    return _attempt(lambda: subprocess.run(command, input=body, capture_output=True, check=True, timeout=TIMEOUT_S))


def _attempt(act: Callable[[], object]) -> str | None:
    """Why it could not be done; None when it was."""
    try:
        act()
    except subprocess.CalledProcessError as error:
        last = (error.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
        return f"it ended with status {error.returncode}{': ' + last if last else ''}"
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return without_secrets(str(error) or type(error).__name__)
    return None
