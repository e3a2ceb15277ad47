"""Where training keeps what it writes: the checkpoints of a campaign, and its run in the ledger."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from tenfold.config import Campaign
from tenfold.core.folder import CampaignFiles
from tenfold.ledger import Ledger
from tenfold.train.checkpoint import Checkpointer
from tenfold.train.finished import describe_run
from tenfold.train.journal import Journal
from tenfold.train.learner import Learner
from tenfold.train.ranks import Ranks


def checkpointer_of(campaign: Campaign, files: CampaignFiles, ranks: Ranks) -> Checkpointer:
    """The checkpoint store of a campaign; a relative path is one below the campaign's directory."""
    settings = campaign.checkpoint
    url = settings.url or "checkpoints"
    return Checkpointer(
        url if "://" in url else files.directory / url,
        keep_last=settings.keep_last,
        keep_every=settings.keep_every,
        storage_options={"endpoint_url": settings.endpoint_url} if settings.endpoint_url else {},
        rank=ranks.rank,
        world_size=ranks.world_size,
    )


@contextmanager
def journal_of(learner: Learner, files: CampaignFiles, kind: str = "train") -> Iterator[Journal]:
    """The run's way into the ledger; ranks other than the first have none."""
    description = describe_run(learner.campaign, learner.identity)
    if not learner.ranks.is_first:
        yield Journal(None, learner.identity.fingerprint, description, kind)
        return
    with closing(Ledger(files.ledger)) as ledger:
        yield Journal(ledger, learner.identity.fingerprint, description, kind)
