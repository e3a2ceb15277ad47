"""What differs between one life of a run and the next: machine, libraries, environment, settings.

A restart that goes wrong is most often one that is not the same: another host, another library, a variable that was set
by hand. What a checkpoint's identity refuses is not told here again.
"""

import os
import platform
from collections.abc import Iterator, Mapping
from typing import Any

from tenfold.config import Campaign
from tenfold.core import shown
from tenfold.ledger import LifeChanged
from tenfold.machine import environment
from tenfold.train import Checkpoint, Observer

PREFIXES = ("ATEN_", "CUBLAS_", "CUDA_", "GLOO_", "KMP_", "MALLOC_", "MKL_", "NCCL_", "OMP_", "PYTORCH_", "TORCH_")
NAMES = ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHASHSEED", "PYTHONPATH")
"""Variables of the environment that change how a run computes; none of them holds a secret."""
OF_EACH_START = frozenset({"TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"})
"""Different by their nature."""
MOST_SAID = 4
"""Differences in the sentence; all are in the event."""


def this_life(settings: Mapping[str, Any]) -> dict[str, str]:
    """What is compared, under dotted names: `environment.…`, `machine.…`, `settings.…`."""
    variables = {
        key: value
        for key, value in os.environ.items()
        if (key.startswith(PREFIXES) or key in NAMES) and key not in OF_EACH_START
    }
    machine = {**environment(), "host": platform.node()}
    parts = {"environment": variables, "machine": machine, "settings": shown(settings)}
    return dict(_flat(parts, ""))


def _flat(values: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{above}.{key}" if above else key
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, str(value)


def differences_of(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, list[str | None]]:
    """[before, now] under each name whose value differs; None where there was or is none."""
    names = sorted(before.keys() | now.keys())
    return {name: [before.get(name), now.get(name)] for name in names if before.get(name) != now.get(name)}


class Lives(Observer):
    """Keeps what this life is like in the checkpoints, and tells what differs when a run goes on."""

    name = "lives"

    def __init__(self, campaign: Campaign) -> None:
        self._now = this_life(campaign.model_dump(mode="json"))
        self._before: dict[str, str] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"life": self._now}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._before = dict(state["life"])

    def resumed(self, step: int, checkpoint: Checkpoint) -> None:
        before, self._before = self._before, None
        if before is None or not (changes := differences_of(before, self._now)):
            return
        said = [f"{name}: {old or 'nothing'} → {new or 'nothing'}" for name, (old, new) in changes.items()]
        more = f" and {len(said) - MOST_SAID} more" if len(said) > MOST_SAID else ""
        message = f"not as in the life before: {'; '.join(said[:MOST_SAID])}{more}"
        self.notice(LifeChanged(step, changes), message)
