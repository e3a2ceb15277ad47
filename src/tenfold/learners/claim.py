"""Whose the state of syncer and learners is: which run's, and how long that has trained in all its attempts."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tenfold.config import with_new_names
from tenfold.core.files import read_json, write_json
from tenfold.core.folder import CampaignFiles
from tenfold.ledger import Ledger
from tenfold.train.identity import ELASTIC, RunIdentity, check_resumable


@dataclass
class Claim:
    """One attempt of a run on the learners' folder of its campaign."""

    files: CampaignFiles
    identity: RunIdentity
    earlier: str | None
    """Fingerprint of the attempt before, where it is another: the number of learners or the code has changed."""
    seconds_before: float
    _began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds of training so far; pauses between attempts do not count."""
        return self.seconds_before + time.monotonic() - self._began

    def save(self) -> None:
        """Keep identity and seconds."""
        saved = {"identity": asdict(self.identity), "fingerprint": self.identity.fingerprint, "seconds": self.seconds}
        write_json(self.files.learners_identity, saved)

    def take_over_metrics(self, ledger: Ledger, run_id: int, steps: int) -> None:
        """Let the ledger show one run where the attempt before had another fingerprint."""
        if self.earlier is not None:
            ledger.inherit_metrics(run_id, self.earlier, steps)


def claim_learners(files: CampaignFiles, identity: RunIdentity, warn: Callable[[str], None]) -> Claim:
    """The right to go on with what lies in the learners' folder, or to begin there.

    Raises InputError when it was trained with another configuration or on other data. The number and size of learners
    may change.
    """
    saved = read_json(files.learners_identity)
    if saved is None:
        return Claim(files, identity, None, 0.0)
    for warning in check_resumable(_with_learners_of(identity, saved["identity"]), identity, str(files.learners)):
        warn(f"warning: {warning}; the run goes on, but `--replay` will not give its bits again")
    earlier = saved["fingerprint"] if saved["fingerprint"] != identity.fingerprint else None
    return Claim(files, identity, earlier, float(saved["seconds"]))


def _with_learners_of(identity: RunIdentity, saved: Mapping[str, Any]) -> dict[str, Any]:
    elastic = {key: identity.config["learners"][key] for key in ELASTIC}
    config = with_new_names(saved["config"])
    return {**saved, "config": {**config, "learners": {**config["learners"], **elastic}}}
