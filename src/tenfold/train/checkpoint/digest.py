"""One hash over tensors, so that two runs can be compared by anybody."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in order of name. Sharded tensors are gathered one at a time."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        whole = (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu().contiguous()
        digest.update(f"{name}\0{whole.dtype}\0{list(whole.shape)}\0".encode())
        digest.update(whole.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
