"""The corpus of a campaign, used only when its files and its audit hold."""

from tenfold.config import Campaign
from tenfold.core.errors import InputError
from tenfold.core.files import read_json
from tenfold.core.folder import CampaignFiles
from tenfold.data.build import asked_for
from tenfold.data.manifest import Manifest


def verified_manifest(campaign: Campaign, files: CampaignFiles, *, hashes: bool = True) -> Manifest:
    """The manifest, after its files' hashes and its audit have been checked.

    Raises InputError when one fails, or when the corpus was built from another [data] or seed.
    """
    manifest = Manifest.load(files.data)
    if manifest.asked_for != asked_for(campaign.data, campaign.seed):
        raise InputError(
            f"{files.data}: built from another [data] or seed than campaign.toml and --set say now; set them back, or "
            f"build anew with `tenfold data {files.directory}`"
        )
    if hashes:
        manifest.verify(files.data)
    if not audit_passed(files, manifest):
        raise InputError(f"{files.data}: no passed audit for this corpus; run `tenfold data {files.directory}`")
    return manifest


def audit_passed(files: CampaignFiles, manifest: Manifest) -> bool:
    recorded = read_json(files.audit) or {}
    return recorded.get("manifest") == manifest.to_dict() and recorded.get("ok") is True
