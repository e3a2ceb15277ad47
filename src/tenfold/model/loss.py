"""Linear layer and cross-entropy in one, chunk by chunk, so that the float32 logits never exist at once.

Shapes: R rows (batch × time), D width, V vocabulary. The gradient is worked out in the forward pass, while a chunk's
logits are at hand: one matrix product less than recomputing them, and two [R, V] float32 tensors less than keeping
them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Logits per chunk: on a CPU 4 MiB of float32, which stay in its cache; on a GPU enough to fill it.
CHUNK_LOGITS = {"cpu": 2**20, "cuda": 2**27}


def linear_cross_entropy(
    hidden_RD: Tensor, weight_VD: Tensor, targets_R: Tensor, z_loss: float
) -> tuple[Tensor, Tensor]:
    """(mean of cross-entropy + z_loss · logsumexp², mean of cross-entropy), in nats per row."""
    if not torch.is_grad_enabled():
        nats = linear_token_nats(hidden_RD, weight_VD, targets_R).mean()
        return nats, nats
    loss, nats = _LinearCrossEntropy.apply(hidden_RD, weight_VD, targets_R, z_loss)  # type: ignore[no-untyped-call]
    return loss, nats


def linear_token_nats(hidden_RD: Tensor, weight_VD: Tensor, targets_R: Tensor) -> Tensor:
    """Cross-entropy of each row in nats, [R], with logits in float32."""
    weight_float = weight_VD.float()
    parts = [
        functional.cross_entropy(hidden.float() @ weight_float.T, targets, reduction="none")
        for hidden, targets in zip(*_chunks(weight_VD.size(0), hidden_RD, targets_R), strict=True)
    ]
    return torch.cat(parts)


def _chunks(vocabulary: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    rows = max(1, CHUNK_LOGITS[tensors[0].device.type] // vocabulary)
    return [torch.split(tensor, rows) for tensor in tensors]


class _LinearCrossEntropy(torch.autograd.Function):
    """Forward works out loss and both gradients; backward only scales them."""

    @staticmethod
    def forward(
        context: Any, hidden_RD: Tensor, weight_VD: Tensor, targets_R: Tensor, z_loss: float
    ) -> tuple[Tensor, Tensor]:
        weight = weight_VD.to(hidden_RD.dtype)
        grad_hidden = torch.empty_like(hidden_RD)
        grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32)
        loss = nats = torch.zeros((), dtype=torch.float32, device=hidden_RD.device)
        chunks = _chunks(weight.size(0), hidden_RD, targets_R, grad_hidden)
        for hidden, targets, grad_out in zip(*chunks, strict=True):
            logits = hidden @ weight.T
            log_partition, target_logit, grad_logits = softmax_gradient(logits, targets, z_loss, hidden_RD.size(0))
            nats = nats + (log_partition - target_logit).sum()
            loss = loss + z_loss * log_partition.square().sum()
            torch.mm(grad_logits, weight, out=grad_out)
            if grad_logits.dtype == grad_weight.dtype:
                grad_weight.addmm_(grad_logits.T, hidden)
            else:
                grad_weight += grad_logits.T @ hidden
        context.save_for_backward(grad_hidden, grad_weight)
        nats = nats / hidden_RD.size(0)
        loss = loss / hidden_RD.size(0) + nats
        context.mark_non_differentiable(nats)
        return loss, nats

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = context.saved_tensors
        return grad_hidden * grads[0].to(grad_hidden.dtype), grad_weight * grads[0], None, None


def softmax_gradient(logits_RV: Tensor, targets_R: Tensor, z_loss: float, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """(logsumexp [R], target's logit [R], gradient of the mean over `rows` with respect to the logits [R, V]).

    One exponential for each logit and no second buffer: float32 logits are overwritten by their gradient.
    """
    logits = logits_RV.float()
    target_logit = logits.gather(1, targets_R[:, None])
    highest = logits.amax(-1, keepdim=True)
    grad = logits.sub_(highest).exp_()
    total = grad.sum(-1, keepdim=True)
    log_partition = total.log() + highest
    grad.mul_((1 + 2 * z_loss * log_partition) / (rows * total))
    grad.scatter_add_(1, targets_R[:, None], torch.full_like(target_logit, -1 / rows))
    return log_partition.squeeze(1), target_logit.squeeze(1), grad.to(logits_RV.dtype)
