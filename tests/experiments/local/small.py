"""A calibration of three small probes, made once: real seconds of this machine, in a few of them."""

from functools import cache

from tenfold.config import Model, Optimizer, Train
from tenfold.experiments.local.calibration import SHAPES, MachineCalibration, fit_machine, time_probes

FEW = (SHAPES[10], SHAPES[4], SHAPES[2])
PROCESS = 400 * 2**20


@cache
def small_calibration() -> MachineCalibration:
    """With one thread; measured once."""
    return measured_calibration()


def measured_calibration() -> MachineCalibration:
    """With one thread, as fast as the machine is now."""
    costs, factor, spread = fit_machine(time_probes(1, FEW))
    return MachineCalibration("here", 1, costs, factor, spread, 0.0, PROCESS, 1.0, 0.0)


def shape(depth: int = 2, width: int = 64, context: int = 64, **more: object) -> Model:
    """A small model."""
    return Model.model_validate({"depth": depth, "width": width, "head_dim": 16, "context": context, **more})


def train(batch_tokens: int = 512, kind: str = "muon", **more: object) -> Train:
    """[train] of an eager float32 run."""
    values = {"batch_tokens": batch_tokens, "compile": "off", "precision": "float32", **more}
    return Train.model_validate(values | {"optimizer": Optimizer.model_validate({"kind": kind})})
