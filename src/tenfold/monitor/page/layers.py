"""Where a metric stands on the page: its layer, the family it is one of, and which one of it."""

import re
from typing import Any

from tenfold.ledger import MFU, OVERHEAD, PEAK_MEMORY, TOKENS_PER_SECOND, metric_of

LAYERS = {
    "train": "learning",
    "holdout": "learning",
    "block": "learning",
    "tokens": "learning",
    "numerics": "numerics",
    "digest": "numerics",
    "source": "data",
    "data": "data",
    "time": "process",
    "process": "process",
    "link": "network",
    "device": "hardware",
    "disk": "hardware",
    "probe": "hardware",
}
"""Layer by the first part of a metric's name; any other metric is one of the `other` layer."""
ORDER = ("learning", "numerics", "data", "process", "network", "hardware", "other")
NO_UNIT = ("1", "its own")
OF_PROCESS = (TOKENS_PER_SECOND, MFU, OVERHEAD, PEAK_MEMORY)
DIGESTS = ("digest/", "data/fingerprint")
"""Numbers that only agree or do not: they are no curve."""


def describe(name: str) -> dict[str, Any]:
    """Layer, unit and meaning of a metric of the ledger; its family and member where its name has a part of the run's.

    A name that this version does not know is shown all the same.
    """
    layer = "process" if name in OF_PROCESS else LAYERS.get(name.split("/")[0], "other")
    try:
        metric = metric_of(name)
    except ValueError:
        return {"name": name, "layer": "other", "unit": "", "meaning": "a metric of a newer version"}
    about = {
        "name": name,
        "layer": layer,
        "unit": "" if metric.unit in NO_UNIT else metric.unit,
        "meaning": metric.meaning,
    }
    if name.startswith(DIGESTS):
        return about | {"digest": True}
    return about | _family(metric.name, name)


def _family(pattern: str, name: str) -> dict[str, str]:
    """`block/3/grad_norm` is member 3 of block/grad_norm."""
    parts = re.split(r"\{\w+\}", pattern)
    if len(parts) == 1:
        return {}
    found = re.fullmatch("(.+)".join(map(re.escape, parts)), name)
    assert found is not None
    member, *rest = found.groups()
    family = pattern.replace("{figure}", rest[0] if rest else "")
    return {"family": re.sub(r"/?\{\w+\}", "", family).strip("/"), "member": member}
