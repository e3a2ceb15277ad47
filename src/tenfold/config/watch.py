"""[watch]: what is measured beside the training steps, when it is an alarm, and what may be done about one."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tenfold.config.base import Section


class Action(Section):
    """[[watch.actions]]: something that may be done when an incident opens; without any, incidents are only told."""

    on: Annotated[list[str], Field(min_length=1)]
    """Kinds of incidents ("loss-spike") or severities ("critical") that it is for."""
    do: Literal["webhook", "command", "checkpoint", "rewind", "pause"]
    """webhook: POST the incident as JSON to `url`; command: run `command` with it on standard input; checkpoint: take
    one now; rewind: go back to the last checkpoint from before it began and leave out the batches from there to now;
    pause: save and stop, as Ctrl-C does."""
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """Where to POST to (webhook)."""
    command: Annotated[list[str], Field(min_length=1)] | None = None
    """Program and arguments; no shell reads them (command)."""
    most: Annotated[int, Field(ge=1)] = 3
    """How often in a run, at most; incidents beyond that are only told."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "Action":
        if (self.url is not None) != (self.do == "webhook"):
            raise ValueError(f'do = "{self.do}" takes {"a `url`" if self.do == "webhook" else "no `url`"}')
        if (self.command is not None) != (self.do == "command"):
            raise ValueError(f'do = "{self.do}" takes {"a `command`" if self.do == "command" else "no `command`"}')
        return self


class Watch(Section):
    """[watch]: signals, detectors and actions. Nothing here changes a weight, unless an action is allowed to."""

    enabled: bool = True
    """Measure signals and run the detectors; the loss, its band and the holdouts are kept in any case."""
    every: Annotated[int, Field(gt=0)] | None = None
    """Steps between measurements that read all weights. Default: as many as keep them below 1% of a step."""
    false_alarms: Annotated[float, Field(gt=0, lt=0.1)] = 1e-5
    """False alarms a step, at most, of each group of detectors (an e-detector's α, Shin et al., arXiv 2203.03532)."""
    actions: list[Action] = []
    """What may be done about incidents, in order."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "trackio", "opentelemetry"]] = []
    """Send every figure to these too, from a process of its own for each; the packages are extras of tenfold."""
