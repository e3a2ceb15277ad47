"""What the coordinator must know of the run: who may train in it, and how much there is to train."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenfold.learners.messages import JoinRequest, Refused
from tenfold.train import differences, without_elastic


@dataclass(frozen=True)
class RunFacts:
    """What the coordinator must know of the run."""

    recipe: str
    code: str
    config: Mapping[str, Any]
    manifest: str
    total_samples: int
    sequences: int
    """Samples in one global step."""
    strikes: int
    stalled_after: float
    learners: int
    """How many are meant to train."""

    def check_joining(self, r: JoinRequest) -> None:
        """Raises Refused, naming what differs, for a learner of another configuration, corpus or code."""
        if r.recipe != self.recipe:
            own, its = without_elastic(self.config), without_elastic(r.config)
            changed = list(differences(own, its))
            what = f"another configuration than the syncer's ({'; '.join(changed[:3])})" if changed else ""
            if not what:
                what = "another corpus; copy the folder `data` of the syncer's campaign, do not build it again"
                what = what if r.manifest != self.manifest else "another recipe, of another version of tenfold"
            raise Refused(f"{r.name}: {what}")
        if r.code != self.code:
            raise Refused(
                f"{r.name}: other code than the syncer's ({r.code[:12]}, not {self.code[:12]}): what it trains would "
                "differ; install the same tenfold on all machines"
            )
