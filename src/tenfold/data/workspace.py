"""One campaign at work in its directory: what every stage, experiment and run of it needs, in one value."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from tenfold.config import Campaign, load_campaign
from tenfold.core import CampaignFiles, InputError, RunConsole, run_console
from tenfold.data.manifest import Manifest, asked_for, audit_passed
from tenfold.ledger import Ledger


@dataclass(frozen=True)
class Workspace:
    """A campaign, the directory it lies in, and the console that its work is told on."""

    campaign: Campaign
    files: CampaignFiles
    console: RunConsole
    overrides: tuple[str, ...] = ()
    """The `--set` options of the command, for processes that read campaign.toml themselves."""
    known_manifest: Manifest | None = None
    """A manifest checked already; where it is None, `manifest` checks the corpus when it is first asked for."""
    check_hashes: bool = True
    """Whether that check reads every file of the corpus again. One process of several does."""
    corpus_digest: str | None = None
    """The corpus that is wanted, whatever campaign.toml says of [data] now: that of a finished model."""

    @cached_property
    def manifest(self) -> Manifest:
        """The corpus, checked once. Raises InputError where it is missing, damaged or built from other settings."""
        return self.known_manifest or verified_manifest(
            self.campaign, self.files, hashes=self.check_hashes, digest=self.corpus_digest
        )

    @contextmanager
    def ledger(self, *, read_only: bool = False) -> Iterator[Ledger]:
        """The campaign's ledger, closed at the end."""
        with closing(Ledger(self.files.ledger, read_only=read_only)) as ledger:
            yield ledger

    def with_campaign(self, campaign: Campaign) -> Self:
        """The same corpus, directory and console under another configuration, such as that of a small run."""
        return replace(self, campaign=campaign, known_manifest=self.manifest)

    def on_corpus(self, digest: str) -> Self | None:
        """The same on the corpus of this digest, be it the newest here or one that was kept; None where it is gone."""
        names = ["data", *(f"{self.files.corpora.name}/{path.name}" for path in sorted(self.files.corpora.glob("*")))]
        for name in names:
            files = replace(self.files, corpus=name)
            if _digest_in(files.data) == digest:
                return replace(self, files=files, corpus_digest=digest, known_manifest=None)
        return None


def _digest_in(corpus: Path) -> str | None:
    try:
        return Manifest.load(corpus).digest
    except InputError:
        return None


def verified_manifest(
    campaign: Campaign, files: CampaignFiles, *, hashes: bool = True, digest: str | None = None
) -> Manifest:
    """The manifest, after its files' hashes and its audit have been checked.

    Raises InputError when one fails, or when the corpus was built from another [data] or seed; with `digest`, when it
    is another corpus.
    """
    manifest = Manifest.load(files.data)
    if digest is not None and manifest.digest != digest:
        raise InputError(f"{files.data}: another corpus than the one wanted here ({digest[:12]}…); run again")
    if digest is None and manifest.asked_for != asked_for(campaign.data, campaign.seed):
        raise InputError(
            f"{files.data}: built from another [data] or seed than campaign.toml and --set say now; set them back, or "
            f"build anew with `tenfold data {files.directory}`"
        )
    if hashes:
        manifest.verify(files.data)
    if not audit_passed(files, manifest):
        raise InputError(f"{files.data}: no passed audit for this corpus; run `tenfold data {files.directory}`")
    return manifest


@contextmanager
def open_workspace(
    directory: Path, overrides: Sequence[str] = (), *, alone: bool = False, quiet: bool = False, hashes: bool = True
) -> Iterator[Workspace]:
    """The campaign in `directory` with `overrides` applied.

    `alone` holds its lock, so that no other command works on it; `quiet` prints nothing, as on further ranks.
    Raises InputError for a campaign.toml that is missing or wrong, TenfoldError where another process holds the lock.
    """
    campaign, files = load_campaign(directory, overrides), CampaignFiles(directory)
    with run_console(enabled=not quiet) as console:
        workspace = Workspace(campaign, files, console, tuple(overrides), check_hashes=hashes)
        if not alone:
            yield workspace
            return
        with files.locked():
            yield workspace
