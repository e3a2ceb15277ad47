"""What every process of a run works out from the campaign in the same way."""

import os
import secrets
from dataclasses import replace
from pathlib import Path

from tenfold.config import Campaign
from tenfold.core.errors import InputError
from tenfold.learners.fragments import Fragment, cut_model
from tenfold.learners.wire import Security
from tenfold.model import Transformer
from tenfold.train.ranks import Ranks

TOKEN_VARIABLE = "TENFOLD_TOKEN"


def batch_of(campaign: Campaign) -> int:
    """Samples of one inner step of a learner. Raises InputError when the batch cannot be shared out."""
    learners, train, context = campaign.learners, campaign.train, campaign.model.context
    if learners.batch_tokens is not None:
        if learners.batch_tokens % context:
            raise InputError(
                f"learners.batch_tokens = {learners.batch_tokens}: must be a multiple of model.context {context}"
            )
        return learners.batch_tokens // context
    sequences = train.batch_tokens // context
    if sequences % learners.count:
        raise InputError(
            f"learners.count = {learners.count}: {sequences} sequences of train.batch_tokens cannot be shared "
            "equally; set learners.batch_tokens"
        )
    return sequences // learners.count


def fragments_of(campaign: Campaign, model: Transformer) -> list[Fragment]:
    """The same cut at every learner and at the syncer."""
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    return cut_model(shapes, campaign.learners.fragments)


def sharing_machine(campaign: Campaign, ranks: Ranks) -> Ranks:
    """Learners started here share the cores: each counts the others as ranks of its machine."""
    if campaign.learners.launch != "local":
        return ranks
    return replace(ranks, local_world_size=ranks.local_world_size * campaign.learners.count)


def make_token(path: Path) -> str:
    """The run's bearer token, made once, for the owner's eyes only."""
    if path.exists():
        return read_token(path)
    token = secrets.token_urlsafe(32)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(token + "\n")
    try:
        os.link(temporary, path)  # whole or not at all, and the first one stays
    except FileExistsError:
        return read_token(path)
    finally:
        temporary.unlink()
    return token


def read_token(path: Path) -> str:
    """Raises InputError when there is none."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the token cannot be read ({error})") from error
    if not token:
        raise InputError(f"{path}: empty; it must hold the syncer's token")
    return token


def token_from(path: Path | None, default: Path) -> str:
    """The token: from the file named, from the environment, or from the campaign."""
    if path is not None:
        return read_token(path)
    return os.environ.get(TOKEN_VARIABLE, "").strip() or read_token(default)


def server_security(campaign: Campaign, token: str) -> Security:
    """For a side that listens; it trusts its own certificate when it connects to itself."""
    learners = campaign.learners
    certificate = Path(learners.tls_certificate) if learners.tls_certificate else None
    key = Path(learners.tls_key) if learners.tls_key else None
    return Security(token, certificate, key, certificate)
