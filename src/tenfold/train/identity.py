"""What makes a run the run it is: config, data, code and numerics, hashed into one fingerprint."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tenfold.config import Campaign
from tenfold.core import InputError, digest_of, digest_of_files
from tenfold.machine import environment

# These change what is written or printed about a run, never its weights; what data are is said by the manifest.
_NOT_IDENTITY: dict[str, Any] = {
    "name": True,
    "data": True,
    "checkpoint": True,
    "evaluate": True,
    "ladder": True,
    "watch": True,
    "chaos": True,
    "learners": {"launch", "bind", "port", "tls_certificate", "tls_key", "strikes", "stalled_after", "crash_limit"}
    | {"slurm_options", "slurm_ranks"},
    "train": {"log_every", "device"},
}
ROOMS_OF_WEIGHTS = ("config", "data", "model", "train")
FILES_OF_LEARNERS = ("learners/outer.py", "learners/settings.py", "learners/learner/replica.py")
"""What makes the weights of a run of several learners, given its merge log, and of no other; the rest of that room says
when things happen, which the log records."""
ROOMS_WITHOUT_WEIGHT = {
    "core": "writes files and lines; nothing in it computes what is trained on",
    "ledger": "remembers what was measured",
    "machine": "measures; what it finds about the numerics is part of the identity by value",
}
"""Rooms that training imports and that `code_version` leaves out, with the reason. A test holds the list against the
imports."""
ELASTIC = frozenset({"count", "batch_tokens"})
"""Keys of [learners] that may differ between the learners of one run, and between its attempts."""


@dataclass(frozen=True)
class RunIdentity:
    """Everything the final weights are a function of."""

    config: dict[str, Any]
    manifest: str
    code: str
    numerics: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """sha256 over all of it, in hex."""
        return digest_of(asdict(self))

    def describe(self, name: str) -> dict[str, Any]:
        """What the ledger keeps about the run of a campaign with this name."""
        return {"name": name, **asdict(self), "environment": environment()}

    @property
    def digested_config(self) -> dict[str, Any]:
        """The configuration to make digests of: with [learners] under its former name, [cluster], and so its `count`.

        Forecasts, changes and small runs of earlier campaigns are found by digests over those names.
        """
        learners = {("learners" if key == "count" else key): value for key, value in self.config["learners"].items()}
        return without(self.config, {"learners"}) | {"cluster": learners}

    @property
    def recipe(self) -> str:
        """sha256 over config and data alone, in hex: one for all learners of a run, whatever their size and code."""
        config = self.digested_config | {"cluster": without_elastic(self.config)["learners"]}
        return digest_of([config, self.manifest])


def without(values: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """A copy that lacks these keys."""
    return {key: value for key, value in values.items() if key not in keys}


def without_elastic(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the keys that may differ between the learners of one run."""
    return {**config, "learners": without(config.get("learners", {}), ELASTIC)}


def identify(campaign: Campaign, manifest_digest: str, numerics: Mapping[str, Any]) -> RunIdentity:
    """The identity of the run that `campaign` describes on this machine."""
    code = code_version(with_learners=campaign.learners.count > 0)
    return RunIdentity(_identity_of(campaign), manifest_digest, code, dict(numerics))


def _identity_of(campaign: Campaign) -> dict[str, Any]:
    return campaign.model_dump(mode="json", exclude=_NOT_IDENTITY)


@cache
def code_version(*, with_learners: bool, package: Path = Path(__file__).parents[1]) -> str:
    """sha256 over the source of the rooms that weights depend on."""
    files = [path for room in ROOMS_OF_WEIGHTS for path in (package / room).rglob("*.py")]
    return digest_of_files([*files, *(package / name for name in FILES_OF_LEARNERS if with_learners)], package)


def owner_of(campaign: Campaign) -> str | None:
    """Whose checkpoints those at a checkpoint.url are; None where they lie in the campaign's own folder.

    Of two campaigns of one name the configuration, kept in every checkpoint, tells them apart.
    """
    return campaign.name if campaign.checkpoint.url else None


@cache
def code_of_exchange(package: Path = Path(__file__).parents[1]) -> str:
    """sha256 over the source of the outer step alone: what learners of other loops have in common."""
    return digest_of_files([package / name for name in FILES_OF_LEARNERS], package)


def check_resumable(saved: Mapping[str, Any], identity: RunIdentity, where: str) -> list[str]:
    """Compare a checkpoint's identity with the run about to resume from it.

    Raises InputError when config or data differ, naming the keys. Returns warnings for what differs in code and
    numerics: going on is possible then, but not bit for bit what an uninterrupted run gives.
    """
    check_same_recipe(saved, identity, where)
    warnings = [f"numerics changed: {change}" for change in differences(saved["numerics"], identity.numerics)]
    if saved["code"] != identity.code:
        warnings.append("tenfold's code changed")
    return warnings


def check_same_recipe(saved: Mapping[str, Any], identity: RunIdentity, where: str) -> None:
    """Raises InputError when config or data are not those of `saved`, naming the keys."""
    if changed := changes_since(saved, identity):
        raise InputError(
            f"{where}: trained with another configuration ({'; '.join(changed[:3])}); "
            "set it back, or train in another directory"
        )
    if saved["manifest"] != identity.manifest:
        raise InputError(f"{where}: trained on other data; train in another directory, or set [data] and seed back")


def changes_since(saved: Mapping[str, Any], identity: RunIdentity) -> list[str]:
    """`key: old → new` for every setting in which a run differs from a saved one."""
    return list(differences(_with_new_defaults(saved["config"]), identity.config))


def is_same_recipe(saved: Mapping[str, Any], identity: RunIdentity) -> bool:
    """Whether config and data are those of `saved`; code and numerics may differ."""
    try:
        check_same_recipe(saved, identity, "")
    except InputError:
        return False
    return True


def _with_new_defaults(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an older tenfold saved, with the keys it did not know yet at their defaults."""
    try:
        return _identity_of(Campaign.model_validate(saved))
    except ValidationError:
        return saved  # it had keys that are gone: they show as differences


def differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """`key: old → new` for every leaf that differs between two nested dicts."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
    elif old != new:
        yield f"{key}: {old} → {new}"
