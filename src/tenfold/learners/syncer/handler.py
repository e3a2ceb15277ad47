"""What arrives on the syncer's ports, sorted to coordinator and shard; anything malformed is refused with a reason."""

from collections.abc import Mapping
from typing import Any

from tenfold.learners.syncer.recorder import Recorder
from tenfold.learners.syncer.report import Report
from tenfold.learners.syncer.service import Coordinator
from tenfold.learners.syncer.shard import Shard
from tenfold.learners.wire import Blob, Refused

LONGEST_POLL_S = 2.0


class ShardHandler:
    """The wire's Handler of a shard in a process of its own."""

    def __init__(self, shard: Shard, recorder: Recorder) -> None:
        self._shard, self._recorder = shard, recorder

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Control messages."""
        try:
            return self._dispatch(method, request)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise Refused(f"{method[:40]}: malformed request ({type(error).__name__}: {str(error)[:80]})") from None

    def _dispatch(self, method: str, r: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "news":
                known = {int(index): _number(version) for index, version in r["known"].items()}
                news = self._shard.news(_number(r["life"]), known, min(float(r["patience"]), LONGEST_POLL_S))
                return {"versions": {str(index): each for index, each in news.items()}}
            case "unpublished":
                claims = {
                    int(index): (_number(version), of_ranks) for index, (version, *of_ranks) in r["claims"].items()
                }
                return {"fragments": self._shard.unpublished(claims)}
            case _:
                raise Refused(f"no method {method[:40]!r}")

    def admit(self, key: str, header: dict[str, Any], size: int) -> None:
        """Only contributions are taken."""
        self._must_match(key, header)
        self._shard.admit(header, size)

    def receive(self, key: str, header: dict[str, Any], data: memoryview) -> dict[str, Any]:
        """A contribution, whole."""
        self._must_match(key, header)
        return self._shard.receive(header, data)

    def blob(self, key: str) -> Blob:
        """fragment/INDEX/RANK/RANKS: its newest version; differences/INDEX/FIRST/LAST: what leads to those."""
        kind, *rest = key.split("/")
        try:
            numbers = [int(part) for part in rest]
        except ValueError:
            raise Refused(f"no blob {key[:80]!r}") from None
        if kind == "fragment" and len(numbers) == 3:
            return self._shard.values(*numbers)
        if kind == "differences" and len(numbers) == 3:
            return self._shard.differences(*numbers)
        raise Refused(f"no blob {key[:80]!r}")

    def rejected(self, reason: str) -> None:
        """For the ledger."""
        self._recorder.say("refused", reason[:300])

    @staticmethod
    def _must_match(key: str, header: Mapping[str, Any]) -> None:
        names = ("life", "fragment", "sequence", "rank")
        if key != "/".join(["contribution", *(str(header.get(name)) for name in names)]):
            raise Refused(f"only contributions are taken here, not {key[:80]!r}")


class SyncerHandler(ShardHandler):
    """The same of the process that holds the coordinator and the first shard."""

    def __init__(self, coordinator: Coordinator, shard: Shard, recorder: Recorder) -> None:
        super().__init__(shard, recorder)
        self._coordinator = coordinator

    def _dispatch(self, method: str, r: dict[str, Any]) -> dict[str, Any]:
        coordinator = self._coordinator
        match method:
            case "join":
                abandoned = [_number(n) for n in r.get("abandoned") or ()]
                return coordinator.join(
                    _text(r["name"]), r.get("address"), _count(r["batch"]), _text(r["recipe"]), abandoned
                )
            case "healed":
                return coordinator.healed(_number(r["life"]), r["origin"], r["digests"])
            case "lease":
                counts = _count(r["samples"]), _number(r["backlog"]), _number(r["received"])
                return coordinator.lease(_number(r["life"]), *counts)
            case "beat":
                return coordinator.beat(_number(r["life"]), r["beat"])
            case "end":
                return coordinator.end(_number(r["life"]), _text(r["reason"]))
            case "leave":
                return coordinator.leave(_number(r["life"]))
            case "status":
                return coordinator.status()
            case "shards":
                return coordinator.addresses()
            case "report":
                return coordinator.report(Report.from_dict(r)).to_dict()
            case _:
                return super()._dispatch(method, r)


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:40]!r} is not a whole number, 0 or more")
    return value


def _count(value: Any) -> int:
    if _number(value) == 0:
        raise ValueError("0 where at least 1 is needed")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise ValueError("not a short printable text")
    return value
