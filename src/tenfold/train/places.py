"""Where training keeps the checkpoints of a campaign."""

from tenfold.config import Campaign
from tenfold.core.folder import CampaignFiles
from tenfold.train.checkpoint import Checkpointer
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
