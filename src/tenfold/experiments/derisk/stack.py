"""Changes on top of each other: applying those tried before, and whether the gains multiply."""

import json
from collections.abc import Mapping
from typing import Any

from tenfold.config import Campaign
from tenfold.config.change import Change, changed_campaign
from tenfold.core.errors import InputError
from tenfold.experiments.derisk.kept import assessment_of
from tenfold.ledger import TriedChange
from tenfold.scaling.assessment import Assessment, stack_held, stacked


def apply_change(campaign: Campaign, change: Change, tried: Mapping[str, TriedChange]) -> Campaign:
    """The campaign with the stack's changes set, in their order, then the change's own.

    `tried`: by name, the changes tried on this campaign. Raises InputError naming one that was never tried, or only on
    top of others, so that what it is worth alone is not known.
    """
    for name in change.stack:
        below = _tried_alone(name, change, tried)
        campaign = changed_campaign(campaign, Change(name, "", (), below.set, f"{change.where}: stack: {name}"))
    return changed_campaign(campaign, change)


def _tried_alone(name: str, change: Change, tried: Mapping[str, TriedChange]) -> TriedChange:
    below = tried.get(name)
    if below is None:
        there = ", ".join(sorted(tried)) or "none"
        raise InputError(
            f"{change.where}: stack: {name!r} was never tried on this campaign; run derisk on it first (tried: {there})"
        )
    if below.stack:
        raise InputError(
            f"{change.where}: stack: {name!r} was tried on top of {', '.join(below.stack)}, not alone; name changes "
            "tried alone"
        )
    return below


def check_stack(change: Change, measured: Assessment, tried: Mapping[str, TriedChange]) -> dict[str, Any] | None:
    """Product of what each was worth alone against what all were together; JSON values.

    None without a stack, and where the change itself was never tried alone: the product would lack it.
    """
    alone = [tried[name] for name in change.stack]
    if not alone:
        return None
    if change.set:
        own = _same_keys(change, tried)
        if own is None:
            return None
        alone.append(own)
    predicted = stacked([assessment_of(below.assessment) for below in alone])
    check = stack_held(predicted, measured.at_target)
    record = check.record()
    worths = {"predicted": predicted.record(), "measured": measured.at_target.record()}
    return worths | {"held": record["held"], "ratio": record["ratio"], "text": record["why"]}


def _same_keys(change: Change, tried: Mapping[str, TriedChange]) -> TriedChange | None:
    """A change, of whatever name, that set the same keys to the same values on top of nothing."""
    wanted = json.loads(json.dumps(dict(change.set)))
    return next((below for below in tried.values() if not below.stack and below.set == wanted), None)
