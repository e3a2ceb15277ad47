"""Faults put into real training: corrupted weights, gradients, activations and moments, bad data, wrong rates.

Each kind draws, for every replica, an onset, a duration (short: spike and recover; lasting: spike and degrade), a place
and a size. Bit patterns are those that fault injection into hardware finds (LLM-PRISM, arXiv 2604.10390): aligned
chunks and periodic addresses, several bits of each float, not single flips.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from benchmarks.detection.tiny import BATCH, BLOCKS, CONTEXT, DEPTH, LAYOUT, ODD, VOCABULARY, Hooks, block_range
from numpy.typing import NDArray
from torch import Tensor

FIRST_ONSET, LAST_ONSET = 8, 72
FOREVER = 1 << 30


@dataclass
class Draw:
    """What was drawn for each replica: (replicas,) step of onset, steps it lasts, and a number in 0–1 for the size."""

    onset: NDArray[np.int64]
    lasts: NDArray[np.int64]
    size: NDArray[np.float64]
    random: np.random.Generator

    def on(self, step: int) -> NDArray[np.intp]:
        """Replicas in which the fault is there at a step."""
        return np.flatnonzero((step >= self.onset) & (step < self.onset + self.lasts))

    def age(self, step: int) -> NDArray[np.int64]:
        """Steps since the onset, 0 before."""
        return np.maximum(step - self.onset, 0)

    def began(self, step: int) -> NDArray[np.intp]:
        """Replicas in which it begins now."""
        return np.flatnonzero(step == self.onset)

    def choose(self, choices: int) -> NDArray[np.int64]:
        """(replicas,) one of `choices` for each."""
        return self.random.integers(0, choices, len(self.onset))


@dataclass(frozen=True)
class Fault:
    """A kind: how it is made, its shape, and steps that a branch with it needs."""

    make: Callable[[Draw], Hooks]
    shape: str
    """recover, degrade, either (drawn for each replica), silent, drift."""
    steps: int = 320
    shortest: int = 1
    longest: int = 24
    expects: str = "training"
    """Which group of signals should see it: training or data."""


def draw(fault: Fault, start: int, replicas: int, seed: int) -> Draw:
    """For a branch that begins at step `start`."""
    random = np.random.default_rng(seed)
    onset = start + random.integers(FIRST_ONSET, LAST_ONSET, replicas)
    short = random.integers(fault.shortest, fault.longest + 1, replicas)
    lasting = {"recover": 0.0, "degrade": 1.0, "either": 0.5}.get(fault.shape, 1.0)
    lasts = np.where(random.random(replicas) < lasting, FOREVER, short)
    return Draw(onset, lasts, random.random(replicas), random)


def flip_bits(values: Tensor, bits: int) -> Tensor:
    """Floats with the given bits (a mask over 32) inverted; what is not finite then is the largest finite float."""
    flipped = (values.detach().contiguous().view(torch.int32) ^ bits).view(torch.float32)
    return flipped.nan_to_num(0.0, 3e38, -3e38)


def _mask(random: np.random.Generator) -> int:
    """Two to four bits: one or two of the exponent's middle (factors 4–256), the others anywhere in the mantissa."""
    exponent = random.choice([24, 25], size=random.integers(1, 3), replace=False)
    mantissa = random.integers(0, 23, size=random.integers(1, 3))
    return int(np.bitwise_or.reduce([1 << int(b) for b in (*exponent, *mantissa)]))


def _chunk(random: np.random.Generator, start: int, end: int) -> NDArray[np.int64]:
    """Addresses: an aligned chunk of 64–512 floats, or every 8th–64th of a matrix."""
    if random.random() < 0.5:
        size = int(2 ** random.integers(6, 10))
        first = start + int(random.integers(0, max((end - start) // size, 1))) * size
        return np.arange(first, min(first + size, end))
    period = int(2 ** random.integers(3, 7))
    return np.arange(start + int(random.integers(0, period)), end, period)


def _patterns(d: Draw) -> list[tuple[NDArray[np.int64], int]]:
    """For each replica: addresses in one matrix, and the mask."""
    matrices = list(LAYOUT.slices.values())
    return [(_chunk(d.random, *matrices[d.random.integers(0, len(matrices))][:2]), _mask(d.random)) for _ in d.onset]


def weight_bits(d: Draw) -> Hooks:
    """Bits of weights in memory, once."""
    patterns = _patterns(d)

    def weights(step: int, all_weights: Tensor) -> None:
        for r in d.began(step):
            where, bits = patterns[r]
            all_weights[r, where] = flip_bits(all_weights[r, where], bits).clamp(-1e4, 1e4)

    return Hooks(weights=weights)


def gradient_bits(d: Draw) -> Hooks:
    """Bits of gradients as they are reduced, in the same addresses at each step while it lasts."""
    patterns = _patterns(d)

    def gradients(step: int, gradient: Tensor) -> None:
        for r in d.on(step):
            where, bits = patterns[r]
            gradient[r, where] = flip_bits(gradient[r, where], bits).clamp(-1e6, 1e6)

    return Hooks(gradients=gradients)


def activation_bits(d: Draw) -> Hooks:
    """Bits of activations at periodic addresses of one block: a defective unit of arithmetic."""
    places = [f"{b}.{kind}" for b in range(DEPTH) for kind in ("attention", "mlp")]
    chosen, period = d.choose(len(places)), 2 ** (2 + d.choose(3))
    masks = [_mask(d.random) for _ in d.onset]
    return _activations(d, lambda r: places[chosen[r]], lambda r, x: _flipped(x, int(period[r]), masks[r]))


def _flipped(x: Tensor, period: int, bits: int) -> Tensor:
    hit = torch.arange(x.numel()).view(x.shape) % period == 0
    return torch.where(hit, x + (flip_bits(x, bits).clamp(-1e3, 1e3) - x).detach(), x)


def _activations(d: Draw, place: Callable[[int], str], change: Callable[[int, Tensor], Tensor]) -> Hooks:
    """`change` applied to what is at `place` of each replica that is on; the step is counted by the token hook."""
    now = {"step": -1}

    def tokens(step: int, given: NDArray[np.int64]) -> NDArray[np.int64]:
        now["step"] = step
        return given

    def touch(where: str, x: Tensor) -> Tensor:
        mine = {int(r) for r in d.on(now["step"]) if place(int(r)) == where}
        return torch.stack([change(r, row) if r in mine else row for r, row in enumerate(x)]) if mine else x

    hooks = Hooks(tokens=tokens, activations=touch)
    hooks.now = now  # type: ignore[attr-defined]
    return hooks


def dead_block(d: Draw) -> Hooks:
    """A block's two branches give nothing."""
    chosen = d.choose(DEPTH)
    hooks = _activations(d, lambda r: "", lambda r, x: x)

    def touch(where: str, x: Tensor) -> Tensor:
        block = int(where.split(".")[0])
        mine = {int(r) for r in d.on(hooks.now["step"]) if chosen[r] == block}  # type: ignore[attr-defined]
        if not mine or where.endswith("stream"):
            return x
        return torch.stack([row * 0 if r in mine else row for r, row in enumerate(x)])

    hooks.activations = touch
    return hooks


def saturated_block(d: Draw) -> Hooks:
    """A block's output grows, 3% at each step."""
    chosen = d.choose(DEPTH)
    hooks = _activations(d, lambda r: f"{chosen[r]}.mlp", lambda r, x: x)
    inner = _activations(
        d,
        lambda r: f"{chosen[r]}.mlp",
        lambda r, x: x * float(min(1.03 ** int(d.age(hooks.now["step"])[r]), 300)),  # type: ignore[attr-defined]
    )
    tokens = hooks.tokens
    assert tokens and inner.tokens

    def both(step: int, given: NDArray[np.int64]) -> NDArray[np.int64]:
        tokens(step, given)
        assert inner.tokens
        return inner.tokens(step, given)

    return Hooks(tokens=both, activations=inner.activations)


def attention_growth(d: Draw) -> Hooks:
    """Query and key matrices of one block grow by 0.5–1.5% a step."""
    chosen, growth = d.choose(DEPTH), 1.005 + 0.01 * d.size

    def weights(step: int, all_weights: Tensor) -> None:
        for r in d.on(step):
            a, b, shape = LAYOUT.slices[f"{chosen[r]}.qkv"]
            matrix = all_weights[r, a:b].view(shape)
            matrix[:, : 2 * shape[0]] *= float(growth[r]) if matrix.abs().max() < 50 else 1.0

    return Hooks(weights=weights)


def rate_bump(d: Draw) -> Hooks:
    """The optimizer uses 8–30 times the learning rate that it says."""
    factor = 8 * (30 / 8) ** d.size

    def rates(step: int, given: NDArray[np.float64]) -> NDArray[np.float64]:
        on = d.on(step)
        given = given.copy()
        given[on] *= factor[on]
        return given

    return Hooks(rates=rates)


def rate_creep(d: Draw) -> Hooks:
    """The learning rate that is really used grows by 0.3–1% a step: training diverges slowly."""
    growth = 1.003 + 0.007 * d.size

    def rates(step: int, given: NDArray[np.float64]) -> NDArray[np.float64]:
        return given * np.minimum(growth ** d.age(step), 300)

    return Hooks(rates=rates)


def moments_lost(d: Draw) -> Hooks:
    """Second moments of one block are scaled down by 10³–10⁵, as after a bad restore."""
    chosen = d.choose(len(BLOCKS))

    def moments(step: int, first: Tensor, second: Tensor) -> None:
        for r in d.began(step):
            a, b = block_range(BLOCKS[chosen[r]])
            second[r, a:b] *= float(10 ** -(3 + 2 * d.size[r]))

    return Hooks(moments=moments)


def gradient_scale(d: Draw) -> Hooks:
    """The whole gradient is 10–1000 times what it is: a loss scale that is not undone."""
    factor = 10 ** (1 + 2 * d.size)

    def gradients(step: int, gradient: Tensor) -> None:
        for r in d.on(step):
            gradient[r] *= float(factor[r])

    return Hooks(gradients=gradients)


def exchange_lost(d: Draw) -> Hooks:
    """The gradient of one block never arrives."""
    chosen = d.choose(len(BLOCKS))

    def gradients(step: int, gradient: Tensor) -> None:
        for r in d.on(step):
            a, b = block_range(BLOCKS[chosen[r]])
            gradient[r, a:b] = 0

    return Hooks(gradients=gradients)


def not_finite(d: Draw) -> Hooks:
    """A few gradient elements are NaN or infinite."""

    def gradients(step: int, gradient: Tensor) -> None:
        for r in d.on(step):
            gradient[r, ::997] = float("nan") if d.size[r] < 0.5 else float("inf")

    return Hooks(gradients=gradients)


def _data(d: Draw, change: Callable[[int, NDArray[np.int64]], NDArray[np.int64]]) -> Hooks:
    def tokens(step: int, given: NDArray[np.int64]) -> NDArray[np.int64]:
        given = given.copy()
        for r in d.on(step):
            given[r] = change(int(r), given[r])
        return given

    return Hooks(tokens=tokens)


def poisoned_data(d: Draw) -> Hooks:
    """Tokens at random, in half to all of the samples."""
    return _data(d, lambda r, t: np.where(
        d.random.random((BATCH, 1)) < 0.5 + d.size[r] / 2, d.random.integers(0, VOCABULARY, t.shape), t))  # fmt: skip


def repeated_data(d: Draw) -> Hooks:
    """Every sample is the first one, or a stretch of 12 tokens again and again."""

    def change(r: int, t: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.repeat(t[:1], BATCH, 0) if d.size[r] < 0.5 else np.tile(t[:, :12], (1, 3))[:, : CONTEXT + 1]

    return _data(d, change)


def odd_characters(d: Draw) -> Hooks:
    """4–20% of the characters are replacement characters."""
    return _data(d, lambda r, t: np.where(d.random.random(t.shape) < 0.04 * 5 ** d.size[r], ODD, t))


def source_lost(d: Draw) -> Hooks:
    """One of the two sources is not read any more; nothing was planned."""
    to = d.choose(2)

    def shares(step: int, given: NDArray[np.float64]) -> NDArray[np.float64]:
        on = d.on(step)
        given = given.copy()
        given[on] = to[on]
        return given

    return Hooks(shares=shares)


def short_documents(d: Draw) -> Hooks:
    """An end of document after every 3rd to 6th token."""
    from benchmarks.detection.tiny import END

    def change(r: int, t: NDArray[np.int64]) -> NDArray[np.int64]:
        t[:, :: 3 + int(3 * d.size[r])] = END
        return t

    return _data(d, change)


def labels_shifted(d: Draw) -> Hooks:
    """Targets are those of the next token but one, in 40–100% of the samples."""

    def targets(step: int, given: Tensor) -> Tensor:
        given = given.clone()
        for r in d.on(step):
            count = max(1, round((0.4 + 0.6 * d.size[r]) * BATCH))
            given[r, :count] = given[r, :count].roll(-1, dims=-1)
        return given

    return Hooks(targets=targets)


def silent_noise(d: Draw) -> Hooks:
    """Noise on the weights at each step, growing: a kernel that rounds wrongly, a gradual drift."""

    def weights(step: int, all_weights: Tensor) -> None:
        age = d.age(step)
        for r in d.on(step):
            spread = float((0.002 + 0.008 * d.size[r]) * min(1 + age[r] / 100, 5))
            noise = torch.from_numpy(d.random.standard_normal(all_weights.shape[1]).astype(np.float32))
            all_weights[r] += noise * spread

    return Hooks(weights=weights)


FAULTS = {
    "weight bits": Fault(weight_bits, "recover", shortest=1, longest=1),
    "gradient bits": Fault(gradient_bits, "either", shortest=4),
    "activation bits": Fault(activation_bits, "either", shortest=2),
    "dead block": Fault(dead_block, "degrade"),
    "saturated block": Fault(saturated_block, "drift"),
    "attention growth": Fault(attention_growth, "drift", steps=800),
    "rate bump": Fault(rate_bump, "either", shortest=8, longest=64),
    "rate creep": Fault(rate_creep, "drift", steps=1400),
    "moments lost": Fault(moments_lost, "recover", shortest=1, longest=1),
    "gradient scale": Fault(gradient_scale, "either", shortest=1),
    "exchange lost": Fault(exchange_lost, "degrade"),
    "not finite": Fault(not_finite, "recover", shortest=1, longest=3),
    "poisoned data": Fault(poisoned_data, "either", shortest=4),
    "repeated data": Fault(repeated_data, "either", shortest=8, longest=64),
    "odd characters": Fault(odd_characters, "either", shortest=8, longest=64),
    "source lost": Fault(source_lost, "degrade"),
    "short documents": Fault(short_documents, "either", shortest=8, longest=64),
    "labels shifted": Fault(labels_shifted, "degrade"),
    "silent noise": Fault(silent_noise, "drift", steps=800),
}
