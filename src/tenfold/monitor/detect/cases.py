"""From findings to incidents: one for one cause, opened, added to, and closed with a verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tenfold.ledger import INCIDENT_PAYLOADS, Evidence, IncidentClosed, IncidentKind, SignalIncident
from tenfold.monitor.detect.finding import Finding, Samples
from tenfold.monitor.detect.groups import ANCHORS, WatchedGroup
from tenfold.monitor.detect.table import Limits


@dataclass(frozen=True)
class Told:
    """What to tell: an incident that opens or is added to, or that one is closed."""

    what: SignalIncident | IncidentClosed
    message: str
    evidence: tuple[Evidence, ...] = ()
    is_new: bool = False


MEMORY, FARTHEST = 16, 4.0
FORGETTING = round(MEMORY * math.log(FARTHEST))
"""Values until a spike is forgotten: the time of the return lies this long before it is seen."""


@dataclass
class Anchor:
    """Where a stream was before an incident: its trackers then, and how far above it may be and be back."""

    group: str
    signal: str
    sign: int
    level: float
    tolerance: float
    kept: dict[str, float]
    far: float = 0.0
    """Mean distance above the level over the last values, in its transform; with a memory of MEMORY values."""
    near: float = 0.0
    """The same, no value counted as more than FARTHEST tolerances, so that one spike is soon forgotten."""


@dataclass
class Case:
    """An incident that is open."""

    payload: SignalIncident
    first: int
    last: int
    """Step of the last alarm."""
    said: list[str] = field(default_factory=list)
    anchors: list[Anchor] = field(default_factory=list)
    quiet: int = 0
    """Steps in a row in which all its signals were back."""

    @property
    def cause(self) -> str:
        return self.payload.cause

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"payload": self.payload.to_dict(), "kind": str(self.payload.kind)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Case":
        payload = INCIDENT_PAYLOADS[IncidentKind(state["kind"])].from_dict(state["payload"])
        assert isinstance(payload, SignalIncident)
        anchors = [Anchor(**each) for each in state["anchors"]]
        return cls(payload, state["first"], state["last"], list(state["said"]), anchors, state["quiet"])


class Cases:
    """Open incidents by family: while one is open, whatever alarms in its family has the same cause."""

    def __init__(self, limits: Limits, groups: Mapping[str, WatchedGroup]) -> None:
        self._limits, self._groups = limits, groups
        self.open: dict[str, Case] = {}

    def take(self, step: int, findings: Sequence[Finding], samples: Samples | None) -> list[Told]:
        """Open incidents for what was found, or add it to those that are open."""
        words = []
        for family in dict.fromkeys(finding.family for finding in findings):
            mine = sorted((f for f in findings if f.family == family), key=lambda f: -f.rank)
            named = [replace(f, payload=_with_samples(f.payload, samples)) for f in mine]
            words += self._add(step, family, named) if family in self.open else self._opened(step, family, named)
        return words

    def _opened(self, step: int, family: str, findings: Sequence[Finding]) -> list[Told]:
        first = findings[0]
        case = self.open[family] = Case(first.payload, step, step)
        self._anchor(case, findings)
        message = f"step {step}: {first.said}. {_suggestion(first.payload)}"
        return [Told(first.payload, message, _links(findings, step), is_new=True)]

    def _add(self, step: int, family: str, findings: Sequence[Finding]) -> list[Told]:
        case = self.open[family]
        case.last, case.quiet = step, 0
        new = [finding for finding in findings if finding.payload.signal not in case.said]
        self._anchor(case, findings)
        if not new:
            return []
        also = "; ".join(finding.said for finding in new)
        message = f"step {step}: {also}: belongs to {case.cause} of step {case.first}. {_suggestion(case.payload)}"
        return [Told(case.payload, message, _links(new, step))]

    def _anchor(self, case: Case, findings: Sequence[Finding]) -> None:
        """Remember where the streams of these findings were, and let them learn where they are now."""
        known = {(anchor.group, anchor.signal, anchor.sign) for anchor in case.anchors}
        for finding in findings:
            signal = finding.payload.signal
            if signal not in case.said:
                case.said.append(signal)
            for name, group in self._groups.items():
                indices = group.indices(signal)
                for index in indices:
                    sign = group.streams.streams[index].watched.sign
                    if (name, signal, sign) not in known and len(case.anchors) < ANCHORS:
                        case.anchors.append(_anchor_of(name, group, index, jump=finding.jumped))
                group.streams.relearn(indices)

    def follow(self, step: int) -> list[Told]:
        """Close what is back, or settled elsewhere."""
        words = []
        for family, case in list(self.open.items()):
            if case.last == step:
                continue
            for anchor in case.anchors:
                self._measure(anchor)
            is_back = all(anchor.near <= anchor.tolerance for anchor in case.anchors)
            case.quiet = case.quiet + 1 if is_back else 0
            if case.quiet >= (self._limits.quiet if case.anchors else self._limits.patience):
                words.append(self._closed(step, family, self._returned(step, case)))
            elif step - case.last >= self._limits.patience:
                words.append(self._closed(step, family, self._settled(case)))
        return words

    def _measure(self, anchor: Anchor) -> None:
        """Follow the mean distance of a stream from its level."""
        group = self._groups[anchor.group]
        x = group.latest[group.index(anchor.signal, anchor.sign)]
        if math.isfinite(x):
            above = float(x) - anchor.level
            anchor.far += (above - anchor.far) / MEMORY
            anchor.near += (min(above, FARTHEST * anchor.tolerance) - anchor.near) / MEMORY

    def _returned(self, step: int, case: Case) -> str:
        """The verdict; streams go on from where they were before."""
        if not case.anchors:
            return f"was not seen again for {self._limits.patience} steps"
        for anchor in case.anchors:
            group = self._groups[anchor.group]
            group.streams.set_back(group.index(anchor.signal, anchor.sign), anchor.kept)
        after = max(step - self._limits.quiet - FORGETTING - case.first, 1)
        return f"came back after about {after} step{'s' if after > 1 else ''}"

    def _settled(self, case: Case) -> str:
        off = {a.signal: a for a in case.anchors if a.near > a.tolerance}
        parts = [f"{signal} {self._said_distance(anchor)}" for signal, anchor in list(off.items())[:3]]
        return "did not come back, and stays: " + (", ".join(parts) or "no new alarm")

    def _said_distance(self, anchor: Anchor) -> str:
        group = self._groups[anchor.group]
        watched = next(s.watched for s in group.streams.streams if s.signal == anchor.signal)
        if watched.transform == "share":
            return f"by {anchor.sign * anchor.far:+.3g}"
        return f"by {math.expm1(anchor.sign * anchor.far):+.1%} of what it was"

    def _closed(self, step: int, family: str, verdict: str) -> Told:
        case = self.open.pop(family)
        message = f"step {step}: {case.cause} of step {case.first} is over: {verdict}"
        return Told(IncidentClosed(case.cause, verdict), message)

    def state_dict(self) -> dict[str, Any]:
        return {family: case.to_dict() for family, case in self.open.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.open = {family: Case.from_dict(each) for family, each in state.items()}


def _anchor_of(name: str, group: WatchedGroup, index: int, *, jump: bool) -> Anchor:
    stream, streams = group.streams.streams[index], group.streams
    level = streams.expected(index, jump=jump)
    return Anchor(
        name, stream.signal, stream.watched.sign, level, streams.tolerance(index), streams.kept(index),
        far=0.0,
        near=FARTHEST * streams.tolerance(index),
    )  # fmt: skip


def _with_samples(payload: SignalIncident, samples: Samples | None) -> SignalIncident:
    return payload if samples is None else replace(payload, first_sample=samples[0], last_sample=samples[1])


def _links(findings: Sequence[Finding], step: int) -> tuple[Evidence, ...]:
    return tuple(dict.fromkeys(link for finding in findings for link in finding.evidence(step)))


SUGGESTIONS = {
    "watch": "See whether it goes on",
    "rewind-and-skip": "Suggested: go back to the last good checkpoint and skip the batches since",
    "rewind": "Suggested: go back to the last good checkpoint and train the same batches again",
    "lower-learning-rate": "Suggested: lower train.optimizer.learning_rate from the last good checkpoint on",
    "examine-data": "Suggested: look at these samples with `tenfold data show`",
    "execute-again": "Suggested: execute the step again, here and on another device, and compare",
    "probe-device": "Suggested: run `tenfold doctor` on the machine, and take it out if it fails",
    "check-input": "Suggested: see what keeps this part slow: the loader, the link, the disk",
    "quarantine": "Suggested: keep this learner out until its machine is examined",
    "free-storage": "Suggested: free space, or let checkpoints go elsewhere",
    "restart": "Suggested: save, and start the process again",
}


def _suggestion(payload: SignalIncident) -> str:
    return SUGGESTIONS[payload.action]
