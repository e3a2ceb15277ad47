"""Muon with its matrix products in a dtype the device is fast at, equal shapes orthogonalised together.

torch.optim.Muon always iterates in bf16, which a CPU without such instructions emulates: on a core with AVX2 alone that
is fifteen times slower than float32 and costs more than the rest of the step. State, options and the update rule are
torch's own, and a test compares the two.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al., https://kellerjordan.github.io/posts/muon/
ITERATIONS = 5
EPSILON = 1e-7
TOGETHER = 16  # matrices orthogonalised at once: enough to fill a device, few enough to need little memory


def orthogonalise(matrices_BRC: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest semi-orthogonal matrix to each of B matrices [R, C], singular values within about [0.7, 1.2].

    A quintic Newton–Schulz iteration (Jordan et al.; Bernstein and Newhouse, arXiv 2409.20325, appendix A).
    """
    linear, cubic, quintic = COEFFICIENTS
    tall = matrices_BRC.size(1) > matrices_BRC.size(2)
    x_BRC = matrices_BRC.to(dtype)
    x_BRC = x_BRC.mT if tall else x_BRC
    x_BRC = x_BRC / x_BRC.norm(dim=(1, 2), keepdim=True).clamp(min=EPSILON)
    for _ in range(ITERATIONS):
        gram_BRR = x_BRC @ x_BRC.mT
        factor_BRR = torch.baddbmm(gram_BRR, gram_BRR, gram_BRR, beta=cubic, alpha=quintic)
        x_BRC = torch.baddbmm(x_BRC, factor_BRR, x_BRC, beta=linear)
    return x_BRC.mT if tall else x_BRC


class Muon(torch.optim.Muon):
    """torch's Muon, iterating in `compute_dtype`. Parameters may be sharded (FSDP2).

    Where `found_inf` (0-dim, on the device) is set and not 0, a step changes nothing, as with torch's fused AdamW.
    """

    found_inf: Tensor | None = None

    def __init__(self, params: Iterable[Tensor], compute_dtype: torch.dtype, **options: Any) -> None:
        super().__init__(params, **options)
        self.compute_dtype = compute_dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None  # nothing here evaluates the loss again
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for alike in by_shape.values():
                for first in range(0, len(alike), TOGETHER):
                    self._update(alike[first : first + TOGETHER], group)

    def _update(self, alike: list[Tensor], group: dict[str, Any]) -> None:
        """One step of parameters of one shape; tall ones move further, as their spectral norm asks for."""
        updates = orthogonalise(torch.stack([self._direction(p, group) for p in alike]), self.compute_dtype)
        rows, columns = alike[0].shape
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        for parameter, update in zip(alike, updates, strict=True):
            decay = 1 - group["lr"] * group["weight_decay"]
            moved = parameter.mul_(decay) if self.found_inf is None else parameter.mul(decay)
            moved = moved.add_(_cut_like(parameter, update.to(parameter.dtype)), alpha=-rate)
            write_if_finite(parameter, moved, self.found_inf)

    def _direction(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Nesterov momentum of one gradient, the whole matrix on every rank."""
        state, grad = self.state[parameter], parameter.grad
        assert grad is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        kept, share = state["momentum_buffer"], 1 - group["momentum"]
        momentum = kept.lerp_(grad, share) if self.found_inf is None else kept.lerp(grad, share)
        write_if_finite(kept, momentum, self.found_inf)
        direction: Tensor = grad.lerp(momentum, group["momentum"])
        return direction.full_tensor() if isinstance(direction, DTensor) else direction


def write_if_finite(target: Tensor, value: Tensor, found_inf: Tensor | None) -> None:
    """Write `value` into `target`, unless `found_inf` (0-dim, on the device) is set and not 0. Both may be sharded."""
    if found_inf is None:
        if value is not target:
            target.copy_(value)
        return
    here = _local(target)
    torch.where(found_inf > 0, here, _local(value), out=here)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _cut_like(parameter: Tensor, whole: Tensor) -> Tensor:
    """`whole`, which every rank has, cut as `parameter` is: nothing is sent."""
    if not isinstance(parameter, DTensor):
        return whole
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
