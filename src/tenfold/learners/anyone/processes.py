"""The process of a syncer whose learners are loops of their own."""

from collections.abc import Sequence
from pathlib import Path

from tenfold.config import Learners, parse_campaign
from tenfold.core import CampaignFiles, stop_on_signal, write_json
from tenfold.learners.anyone.serving import serve_own_loops
from tenfold.learners.launch.processes import address_file
from tenfold.learners.syncer.service import SyncerSite
from tenfold.learners.wire import BlobServer, Security, reached
from tenfold.learners.wire.security import make_token


def syncer_of_own_loops(directory: Path, overrides: Sequence[str], total: int, port: int, bulk_port: int) -> bool:
    """Lead a run of `total` samples in this folder; True when it is finished.

    Only [learners] of the overrides counts. Learners need the token in DIRECTORY/learners/token.
    """
    settings = parse_campaign("", "--set", overrides).learners
    files = CampaignFiles(directory)
    files.learners.mkdir(parents=True, exist_ok=True)
    token_file = files.learners / "token"
    security = _security(settings, make_token(token_file))
    site = SyncerSite(files.learners, security, settings.bind, port or settings.port, bulk_port)

    def ready(server: BlobServer) -> None:
        address = reached(server.address, "127.0.0.1")
        write_json(address_file(files.learners), {"address": address, "bulk_port": server.bulk_port})
        print(f"syncer listens on {address}; learners need the token in {token_file}", flush=True)

    with files.locked(), stop_on_signal() as stop:
        return serve_own_loops(directory, settings, total, site, stop, ready)


def _security(settings: Learners, token: str) -> Security:
    certificate = Path(settings.tls_certificate) if settings.tls_certificate else None
    return Security(token, certificate, Path(settings.tls_key) if settings.tls_key else None, certificate)
