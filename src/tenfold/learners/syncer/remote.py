"""A shard in another process, as the coordinator knows it: from its reports."""

from collections.abc import Collection, Mapping
from contextlib import closing

from tenfold.core.errors import TenfoldError
from tenfold.learners.syncer.report import Report
from tenfold.learners.syncer.shard import Claim
from tenfold.learners.wire import Link, Refused, Security, reached

ASK_S = 3.0  # a learner that heals asks again after this


class RemoteShard:
    """Never waits for the shard, but for `unpublished`, which is asked without any lock held."""

    def __init__(self, number: int, fragments: Collection[int], security: Security) -> None:
        """`fragments`: indices of those that lie there."""
        self.number, self.fragments, self._security = number, fragments, security
        self._last: Report | None = None
        self._sealed: dict[int, dict[int, int]] = {}

    def heard(self, report: Report) -> None:
        """Take in a report. Raises Refused from a process that another one has taken over."""
        if self._last is not None and report.generation < self._last.generation:
            raise Refused(f"another process has taken over shard {self.number}; this one must stop")
        self._sealed |= report.sealed
        self._last = report

    @property
    def address(self) -> str:
        """Where it listens. Raises TenfoldError before its first report."""
        if self._last is None:
            raise TenfoldError(f"shard {self.number} of the syncer is away")
        return self._last.address

    @property
    def versions(self) -> dict[int, int]:
        """Newest version of each fragment, as far as is known."""
        return self._last.versions if self._last else {}

    def seal(self, life: int) -> dict[int, int] | None:
        """What the shard has answered; None: not yet, it is asked by every answer to a report."""
        return self._sealed.get(life)

    def is_empty(self, mark: int) -> bool:
        """Whether nothing waited to be merged after all samples up to this mark were trained and sent."""
        return self._last is not None and self._last.empty_since == mark

    def unpublished(self, claims: Mapping[int, Claim]) -> list[int]:
        """As Shard.unpublished. Raises Unreachable (a TenfoldError) when the shard is away: ask again."""
        with closing(Link(reached(self.address, "127.0.0.1"), self._security, streams=1, patience=ASK_S)) as link:
            request = {str(index): [version, *digests] for index, (version, digests) in claims.items()}
            answer = link.call("unpublished", {"claims": request}, timeout=ASK_S)
        return [int(index) for index in answer["fragments"]]
