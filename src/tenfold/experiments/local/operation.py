"""One operation of a step as far as its time depends on it: what kind it is and how large."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from tenfold.experiments.local.places import Place

FACTORS = {"mm": 0, "bmm": 0, "addmm": 1, "addmm_": 1, "baddbmm": 1, "baddbmm_": 1}
"""Matrix products → which argument is the first factor."""
BY_RESULT = frozenset({"embedding"})  # reads a few rows of a large table
BY_INDEX = frozenset({"gather", "scatter_add_"})  # touch one element of each row


class Operation(NamedTuple):
    """`kind` names the function and how its operands lie in memory.

    `sizes` is (batch, m, n, k) of a matrix product [m, k] · [k, n], (elements, tensors) of all else, () of a view.
    """

    kind: str
    sizes: tuple[int, ...]
    place: Place

    @property
    def group(self) -> str:
        """products, elementwise or views."""
        return {4: "products", 2: "elementwise", 0: "views"}[len(self.sizes)]

    @property
    def in_place(self) -> bool:
        """Whether it writes into a tensor that it was given."""
        return self.kind.split(" ", 1)[0].endswith("_")


def kind_and_sizes(func: Any, args: Sequence[Any], result: Any) -> tuple[str, tuple[int, ...]]:
    """Kind and sizes of calling the torch operation `func` on `args`."""
    name = func._schema.name.removeprefix("aten::")
    if name in FACTORS:
        first = FACTORS[name]
        return _product(name, args[first], args[first + 1])
    if any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns):
        return "view", ()
    return _elementwise(name, args, result)


def _product(name: str, left: Tensor, right: Tensor) -> tuple[str, tuple[int, ...]]:
    batch = left.size(0) if left.dim() == 3 else 1
    sizes = (batch, left.size(-2), right.size(-1), left.size(-1))
    return f"{name} {_order(left)}{_order(right)}", sizes


def _order(matrix: Tensor) -> str:
    """n: rows lie one after another; t: columns do, as in a transposed view."""
    return "n" if matrix.stride(-1) == 1 else "t"


def _elementwise(name: str, args: Sequence[Any], result: Any) -> tuple[str, tuple[int, ...]]:
    lists = [a for a in args if isinstance(a, list | tuple) and a and isinstance(a[0], Tensor)]
    if lists and name != "cat" and name != "stack":
        return name, (sum(tensor.numel() for tensor in lists[0]), len(lists[0]))
    given = [a for a in args if isinstance(a, Tensor)] + [tensor for each in lists for tensor in each]
    if name in BY_INDEX:
        return name, (args[2].numel(), 1)
    made = result if isinstance(result, Tensor) else None
    if name in BY_RESULT and made is not None:
        return name, (made.numel(), 1)
    elements = max([tensor.numel() for tensor in [*given, *([] if made is None else [made])]], default=0)
    large = [tensor for tensor in given if tensor.numel() == elements]
    lie = "" if all(tensor.is_contiguous() for tensor in large) else " strided"
    return f"{name} {len(large)}{lie}", (elements, 1)
