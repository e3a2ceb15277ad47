"""What makes a run the run it is: config, data, code and numerics, hashed into one fingerprint."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tenfold.config import Campaign
from tenfold.errors import InputError

# These change what is written or printed about a run, never its weights.
_NOT_IDENTITY: dict[str, Any] = {"name": True, "checkpoint": True, "evaluate": True, "train": {"log_every", "device"}}


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
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def recipe(self) -> str:
        """sha256 over what the user chose, config and data: a resume must match it."""
        return hashlib.sha256(json.dumps([self.config, self.manifest], sort_keys=True).encode()).hexdigest()


def identify(campaign: Campaign, manifest_digest: str, numerics: Mapping[str, Any]) -> RunIdentity:
    """The identity of the run that `campaign` describes on this machine."""
    config = campaign.model_dump(mode="json", exclude=_NOT_IDENTITY)
    return RunIdentity(config, manifest_digest, code_version(), dict(numerics))


@cache
def code_version() -> str:
    """sha256 over the package's own source files."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def check_resumable(saved: Mapping[str, Any], identity: RunIdentity, where: str) -> list[str]:
    """Compare a checkpoint's identity with the run about to resume from it.

    Raises InputError when config or data differ, naming the keys. Returns warnings for what differs in code and
    numerics: going on is possible then, but not bit for bit what an uninterrupted run gives.
    """
    changed = list(differences(saved["config"], identity.config))
    if changed:
        raise InputError(
            f"{where}: these checkpoints belong to another configuration ({'; '.join(changed[:3])}); "
            "set it back, or train in another directory"
        )
    if saved["manifest"] != identity.manifest:
        raise InputError(f"{where}: these checkpoints were trained on other data; train in another directory")
    warnings = [f"numerics changed: {change}" for change in differences(saved["numerics"], identity.numerics)]
    if saved["code"] != identity.code:
        warnings.append("tenfold's code changed")
    return warnings


def differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """`key: old → new` for every leaf that differs between two nested dicts."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
    elif old != new:
        yield f"{key}: {old} → {new}"
