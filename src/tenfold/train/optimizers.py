"""How weights move: AdamW and Muon with a state that is plain named tensors."""

from collections.abc import Iterator, Sequence
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from tenfold.config import Optimizer
from tenfold.model import Role, Transformer, adamw_multipliers, role_of
from tenfold.train.muon import Muon


class Optimizers:
    """The optimizers of one model, stepped together."""

    def __init__(self, parameters: dict[str, nn.Parameter], each: list[torch.optim.Optimizer]) -> None:
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._each = each
        self._peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in each]
        self._allocate()

    def step(self, learning_rate_factor: float, finite: Tensor) -> None:
        """Update every parameter, each at its own peak learning rate times the factor, if `finite` (0-dim bool).

        Otherwise weights and moments stay as they are, to the bit. On a CPU the flag is at hand: look, and return. On a
        GPU looking at it would leave the device idle until the host has seen it, so the kernels look instead.
        """
        if finite.device.type != "cpu":
            self._update(learning_rate_factor, found_inf=finite.logical_not().float())
        elif finite:
            self._update(learning_rate_factor, found_inf=None)

    def _update(self, learning_rate_factor: float, found_inf: Tensor | None) -> None:
        """`found_inf`: 1.0 on the device where nothing may change; torch's name for it, which its fused AdamW obeys."""
        for optimizer, peaks in zip(self._each, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * learning_rate_factor
            optimizer.found_inf = found_inf  # type: ignore[attr-defined]
            optimizer.step()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for optimizer in self._each:
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """Moments and step counts, `<parameter>/<what>` → tensor; writing into them restores the state."""
        return dict(self._state())

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for optimizer in self._each:
            for parameter, state in optimizer.state.items():
                for what, tensor in state.items():
                    yield f"{self._names[id(parameter)]}/{what}", tensor

    def _allocate(self) -> None:
        """Make torch allocate its state now, so that a checkpoint can be loaded before the first step.

        A step with zero gradients and zero learning rate does it; the moments are then set back to zero.
        """
        for optimizer in self._each:
            for group in optimizer.param_groups:
                group["lr"] = 0.0
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
        self.zero_grad()
        for tensor in self.state_tensors().values():
            tensor.zero_()


def build_optimizers(model: Transformer, config: Optimizer) -> Optimizers:
    """The optimizers that `config.kind` names. Each role of a parameter belongs to one of them."""
    parameters = dict(model.named_parameters())
    each: list[torch.optim.Optimizer]
    match config.kind:
        case "adamw":
            each = [_adamw(_groups(model, config, tuple(Role)), config)]
        case "muon":
            others = tuple(role for role in Role if role is not Role.HIDDEN)
            each = [_adamw(_groups(model, config, others), config), _muon(model, config)]
        case _:
            assert_never(config.kind)
    return Optimizers(parameters, each)


def _groups(model: Transformer, config: Optimizer, roles: Sequence[Role]) -> list[dict[str, Any]]:
    """The parameters of each role, with AdamW's settings as the parametrisation scales them."""
    groups = []
    for role in roles:
        members = _members(model, role)
        if not members:
            continue
        factors = adamw_multipliers(model.config, role)
        groups.append(
            {
                "params": members,
                "lr": config.learning_rate * factors.learning_rate,
                "weight_decay": config.weight_decay * factors.weight_decay,
                "eps": config.epsilon * factors.epsilon,
            }
        )
    return groups


def _members(model: Transformer, role: Role) -> list[nn.Parameter]:
    return [parameter for name, parameter in model.named_parameters() if role_of(name) is role]


def _adamw(groups: list[dict[str, Any]], config: Optimizer) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), fused=True)


def _muon(model: Transformer, config: Optimizer) -> Muon:
    return Muon(
        _members(model, Role.HIDDEN),
        model.compute_dtype,
        lr=config.muon_learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
    )
