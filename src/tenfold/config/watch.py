"""[watch]: what is measured beside the training steps, when it is an alarm, and what may be done about one."""

from typing import Annotated

from pydantic import Field

from tenfold.config.base import Section


class Watch(Section):
    """[watch]: signals, detectors and actions. Nothing here changes a weight, unless an action is allowed to."""

    enabled: bool = True
    """Measure signals and run the detectors; the loss, its band and the holdouts are kept in any case."""
    every: Annotated[int, Field(gt=0)] | None = None
    """Steps between measurements that read all weights. Default: as many as keep them below 1% of a step."""
    false_alarms: Annotated[float, Field(gt=0, lt=0.1)] = 1e-5
    """False alarms a step, at most, of each group of detectors (an e-detector's α, Shin et al., arXiv 2203.03532)."""
