"""Many tiny transformers trained for real at once: [replicas, …] tensors, one learning rate, batch and fault for each.

Character-level text of two sources (this repository's prose, Python's standard library), pre-norm blocks, AdamW with
clipping. One batched step of 24 replicas costs little more than four steps alone, so that hundreds of thousands of
steps of healthy training, and hundreds of faults in real training, fit on two cores.
"""

import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WIDTH, DEPTH, HEADS, CONTEXT, BATCH = 16, 2, 2, 24, 4
ODD, END, VOCABULARY = 96, 97, 98
BLOCKS = ("embedding", "0", "1", "head")
GRAM = 8


def encode(text: str) -> NDArray[np.int64]:
    """Printable ASCII and the newline as 0–95, anything else ODD."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64)
    kept = (codes >= 32) & (codes < 127)
    return np.where(kept, codes - 31, np.where(codes == 10, 0, ODD))


def sources() -> list[NDArray[np.int64]]:
    """Prose and code, documents joined by END."""
    here = Path(__file__).resolve().parents[2]
    prose = sorted((here / "docs").glob("*.md"))
    code = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:120]
    return [_joined(prose), _joined(code)]


def _joined(files: Sequence[Path]) -> NDArray[np.int64]:
    parts = [np.append(encode(piece), END) for file in files for piece in _pieces(file)]
    return np.concatenate(parts)


def _pieces(file: Path) -> list[str]:
    """A file cut into documents of a few hundred characters, at empty lines."""
    return [piece for piece in file.read_text(errors="replace").split("\n\n") if len(piece) > 40]


@dataclass(frozen=True)
class Setting:
    """One configuration: learning rate, its schedule over the run, batch, data, and what changes on purpose at `half`.

    `changes`: steps at which something changes that a configuration would say.
    """

    name: str
    learning_rate: float = 3e-3
    schedule: str = "constant"
    samples: int = BATCH
    samples_after: int | None = None
    code_share: float = 0.5
    code_share_after: float | None = None
    beta2: float = 0.95
    clip: float = 1.0
    decay: float = 0.1
    scale: float = 1.0

    def factor(self, step: int, steps: int) -> float:
        """Of the learning rate, after 200 steps of warm-up."""
        warm = min(1.0, (step + 1) / 200)
        share = step / steps
        match self.schedule:
            case "cosine":
                return warm * (0.1 + 0.45 * (1 + np.cos(np.pi * share)))
            case "drop":
                return warm * (1.0 if share < 0.6 else 0.1)
            case "wsd":
                return warm * (1.0 if share < 0.8 else max(0.02, (1 - share) / 0.2))
        return warm

    def changes(self, steps: int) -> list[int]:
        """Steps (counted from 1) at which data or batch change as planned."""
        changed = self.samples_after is not None or self.code_share_after is not None
        return [steps // 2 + 1] if changed else []

    def at(self, step: int, steps: int) -> tuple[int, float]:
        """Samples and share of code of a step."""
        late = step >= steps // 2
        samples = self.samples_after if late and self.samples_after is not None else self.samples
        share = self.code_share_after if late and self.code_share_after is not None else self.code_share
        return samples, share


SETTINGS = (
    Setting("plain"),
    Setting("low rate", learning_rate=1e-3),
    Setting("high rate", learning_rate=1.5e-2),
    Setting("very high rate", learning_rate=3e-2, beta2=0.99),
    Setting("cosine", schedule="cosine"),
    Setting("schedule drop", learning_rate=1e-2, schedule="drop"),
    Setting("warm-up, stable, decay", schedule="wsd"),
    Setting("data switch", code_share=0.0, code_share_after=1.0),
    Setting("data mix shift", code_share=0.8, code_share_after=0.3),
    Setting("batch halved", samples=4, samples_after=2),
    Setting("batch grown", samples=1, samples_after=4),
    Setting("tiny batch", samples=1),
    Setting("long memory", beta2=0.999),
    Setting("no clipping", clip=1e9, learning_rate=6e-3),
    Setting("large initial scale", scale=3.0, decay=0.0),
)


@dataclass
class Layout:
    """Where each matrix lies in the flat vector of a replica's weights."""

    slices: dict[str, tuple[int, int, tuple[int, ...]]] = field(default_factory=dict)
    size: int = 0

    def add(self, name: str, *shape: int) -> None:
        count = int(np.prod(shape))
        self.slices[name] = (self.size, self.size + count, shape)
        self.size += count


def layout() -> Layout:
    made = Layout()
    made.add("embedding.weight", VOCABULARY, WIDTH)
    made.add("embedding.position", CONTEXT, WIDTH)
    for block in range(DEPTH):
        made.add(f"{block}.qkv", WIDTH, 3 * WIDTH)
        made.add(f"{block}.out", WIDTH, WIDTH)
        made.add(f"{block}.up", WIDTH, 4 * WIDTH)
        made.add(f"{block}.down", 4 * WIDTH, WIDTH)
    made.add("head.weight", WIDTH, VOCABULARY)
    return made


LAYOUT = layout()


def block_range(block: str) -> tuple[int, int]:
    """First and last (exclusive) element of a block's weights."""
    parts = [(a, b) for name, (a, b, _) in LAYOUT.slices.items() if name.split(".")[0] == block]
    return parts[0][0], parts[-1][1]


def initial(settings: Sequence[Setting], seed: int) -> Tensor:
    """(replicas, size) weights."""
    rows = []
    for index, setting in enumerate(settings):
        generator = torch.Generator().manual_seed(seed * 1000 + index)
        row = torch.empty(LAYOUT.size)
        for name, (a, b, shape) in LAYOUT.slices.items():
            spread = 0.3 if name.startswith("embedding") else shape[0] ** -0.5
            if name.endswith(("out", "down")):
                spread *= (2 * DEPTH) ** -0.5
            row[a:b] = torch.randn(b - a, generator=generator) * spread * setting.scale
        rows.append(row)
    return torch.stack(rows)


Touch = Callable[[str, Tensor], Tensor]
"""What a fault does to the activations at a place: (place, [replicas, samples, context, width]) → the same shape."""


@dataclass
class Hooks:
    """Where faults reach into a step. Each may be None."""

    tokens: Callable[[int, NDArray[np.int64]], NDArray[np.int64]] | None = None
    """[replicas, samples, context + 1] → the same, and what a loader would really have read."""
    targets: Callable[[int, Tensor], Tensor] | None = None
    activations: Touch | None = None
    gradients: Callable[[int, Tensor], None] | None = None
    weights: Callable[[int, Tensor], None] | None = None
    rates: Callable[[int, NDArray[np.float64]], NDArray[np.float64]] | None = None
    moments: Callable[[int, Tensor, Tensor], None] | None = None
    shares: Callable[[int, NDArray[np.float64]], NDArray[np.float64]] | None = None


class Trainer:
    """All replicas, their optimizers, data and signals."""

    def __init__(self, settings: Sequence[Setting], seed: int, steps: int) -> None:
        self.settings, self.steps, self.step = list(settings), steps, 0
        self.weights = initial(settings, seed).requires_grad_()
        self.first, self.second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.random = np.random.default_rng(seed)
        self.sources = sources()
        self.seen = np.full((len(self.settings), 1 << 15), -(10**9), np.int64)
        column = lambda name: torch.tensor([getattr(s, name) for s in settings]).view(-1, 1)  # noqa: E731
        self.beta2, self.clip, self.decay = column("beta2"), column("clip"), column("decay")
        self.counts = 0

    def state(self) -> dict[str, Any]:
        """A copy of everything, for branches."""
        return {
            "weights": self.weights.detach().clone(), "first": self.first.clone(), "second": self.second.clone(),
            "random": self.random.bit_generator.state, "seen": self.seen.copy(), "step": self.step,
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Back to a copy."""
        self.weights = state["weights"].clone().requires_grad_()
        self.first, self.second = state["first"].clone(), state["second"].clone()
        self.random.bit_generator.state = state["random"]
        self.seen, self.step = state["seen"].copy(), state["step"]

    def batch(self, hooks: Hooks) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Tokens [replicas, BATCH, CONTEXT + 1], samples of each replica, measured share of code."""
        plan = [s.at(self.step, self.steps) for s in self.settings]
        shares = np.array([share for _, share in plan])
        if hooks.shares:
            shares = hooks.shares(self.step, shares)
        counts = np.array([samples for samples, _ in plan])
        of_code = self.random.random((len(plan), BATCH)) < shares[:, None]
        places = self.random.random((len(plan), BATCH))
        tokens = np.empty((len(plan), BATCH, CONTEXT + 1), np.int64)
        for kind, source in enumerate(self.sources):
            mine = of_code == bool(kind)
            starts = (places[mine] * (len(source) - CONTEXT - 1)).astype(np.int64)
            tokens[mine] = source[starts[:, None] + np.arange(CONTEXT + 1)]
        used = np.arange(BATCH) < counts[:, None]
        return tokens, counts, (of_code & used).sum(1) / counts

    def data_signals(self, tokens: NDArray[np.int64], counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Repetition, odd share, novelty, document length of each replica's batch."""
        used = np.arange(BATCH) < counts[:, None]
        weights = (np.uint64(1099511628211) ** np.arange(GRAM, dtype=np.uint64)).astype(np.uint64)
        windows = np.lib.stride_tricks.sliding_window_view(tokens, GRAM, axis=2)
        hashes = ((windows.astype(np.uint64) + np.uint64(7)) * weights).sum(-1, dtype=np.uint64)
        hashes = (hashes * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(49)
        grams = np.where(used[:, :, None], hashes.astype(np.int64), -1).reshape(len(tokens), -1)
        ordered = np.sort(grams, axis=1)
        real = ordered[:, 1:] >= 0
        total = np.maximum((grams >= 0).sum(1), 1)
        repeated = ((ordered[:, 1:] == ordered[:, :-1]) & real).sum(1) / total
        rows = np.arange(len(tokens))[:, None]
        fresh = ((self.seen[rows, grams] < self.step - 400) & (grams >= 0)).sum(1) / total
        stamped = np.where(grams >= 0, self.step, self.seen[rows, grams])
        self.seen[rows, grams] = stamped
        many = counts * (CONTEXT + 1)
        odd = ((tokens == ODD) & used[:, :, None]).sum((1, 2)) / many
        length = many / (((tokens == END) & used[:, :, None]).sum((1, 2)) + counts)
        return {
            "data/repetition": repeated, "data/novelty": fresh, "data/odd_share": odd, "data/document_length": length,
        }  # fmt: skip

    def forward(self, tokens: Tensor, targets: Tensor, used: Tensor, touch: Touch | None) -> tuple[Tensor, Any]:
        """Mean loss of each replica, and RMS and largest attention logit by block."""
        parts = self.weights.split([b - a for a, b, _ in LAYOUT.slices.values()], dim=1)
        of = {
            n: part.unflatten(1, shape) for part, (n, (_, _, shape)) in zip(parts, LAYOUT.slices.items(), strict=True)
        }
        replicas, samples, length = tokens.shape
        numbers = tokens + VOCABULARY * torch.arange(replicas).view(-1, 1, 1)
        x = torch.nn.functional.embedding(numbers, of["embedding.weight"].flatten(0, 1))
        x = x + of["embedding.position"].unsqueeze(1)
        found: dict[str, Tensor] = {}
        mask = torch.full((length, length), -1e9).triu(1)
        for block in range(DEPTH):
            qkv = _linear(_normed(x), of[f"{block}.qkv"])
            q, k, v = qkv.view(replicas, samples, length, 3, HEADS, -1).permute(3, 0, 1, 4, 2, 5)
            logits = (q @ k.transpose(-1, -2)) * (WIDTH // HEADS) ** -0.5
            found[f"block/{block}/attention_logit"] = logits.detach().tril().flatten(1).amax(1)
            mixed = torch.softmax(logits + mask, -1) @ v
            branch = _linear(mixed.transpose(2, 3).reshape(replicas, samples, length, WIDTH), of[f"{block}.out"])
            x = x + (touch(f"{block}.attention", branch) if touch else branch)
            branch = _linear(torch.relu(_linear(_normed(x), of[f"{block}.up"])), of[f"{block}.down"])
            x = x + (touch(f"{block}.mlp", branch) if touch else branch)
            x = touch(f"{block}.stream", x) if touch else x
            found[f"block/{block}/activation_rms"] = x.detach().square().flatten(1).mean(1).sqrt()
        logits = _linear(_normed(x), of["head.weight"])
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none")
        nats = (nats.view(replicas, samples, -1).mean(-1) * used).sum(1) / used.sum(1)
        return nats, found

    def execute(self, hooks: Hooks) -> dict[str, NDArray[np.float64]]:
        """One step of all replicas: name of the signal → (replicas,)."""
        tokens, counts, shares = self.batch(hooks)
        if hooks.tokens:
            tokens = hooks.tokens(self.step, tokens)
        signals = self.data_signals(tokens, counts)
        used = torch.from_numpy((np.arange(BATCH) < counts[:, None]).astype(np.float32))
        inputs = torch.from_numpy(tokens)
        targets = inputs[:, :, 1:].contiguous()
        if hooks.targets:
            targets = hooks.targets(self.step, targets)
        nats, found = self.forward(inputs[:, :, :-1].contiguous(), targets, used, hooks.activations)
        (gradient,) = torch.autograd.grad(nats.nan_to_num(0, 0, 0).sum(), self.weights)
        with torch.no_grad():
            if hooks.gradients:
                hooks.gradients(self.step, gradient)
            update = self._update(hooks, gradient, nats)
            signals |= self._norms(gradient, update)
            self.weights += update
            if hooks.weights:
                hooks.weights(self.step, self.weights)
        self.step += 1
        rates = [s.learning_rate * s.factor(self.step - 1, self.steps) for s in self.settings]
        signals |= {
            "train/loss": nats.detach().numpy(), "train/learning_rate": np.array(rates),
            "source/code/share": shares, "samples": counts.astype(float),
        }  # fmt: skip
        return signals | {name: value.numpy() for name, value in found.items()}

    def _update(self, hooks: Hooks, gradient: Tensor, nats: Tensor) -> Tensor:
        """AdamW's; zero for a replica whose loss or gradient is not finite, as tenfold does."""
        step = self.step
        rates = np.array([s.learning_rate * s.factor(step, self.steps) for s in self.settings])
        if hooks.rates:
            rates = hooks.rates(step, rates)
        norm = gradient.norm(dim=1, keepdim=True)
        finite = torch.isfinite(norm) & torch.isfinite(nats.detach().view(-1, 1))
        before = None if finite.all() else (self.first.clone(), self.second.clone())
        clipped = gradient * (self.clip / (norm + 1e-6)).clamp(max=1)
        self.first.lerp_(clipped, 0.1)
        self.second.mul_(self.beta2).add_(clipped.square_().mul_(1 - self.beta2))
        if before:
            self.first, self.second = (
                torch.where(finite, n, o) for n, o in ((self.first, before[0]), (self.second, before[1]))
            )
        if hooks.moments:
            hooks.moments(step, self.first, self.second)
        count, rate = step + 1, torch.tensor(rates, dtype=torch.float32).view(-1, 1)
        root = (self.second / (1 - self.beta2**count)).sqrt_().add_(1e-8)
        update = torch.addcdiv(self.decay * self.weights.detach(), self.first, root, value=1 / (1 - 0.9**count))
        update *= -rate
        return update if before is None else torch.where(finite, update, 0)

    def _norms(self, gradient: Tensor, update: Tensor) -> dict[str, NDArray[np.float64]]:
        found = {
            "train/grad_norm": gradient.norm(dim=1),
            "train/update_norm": update.norm(dim=1),
            "numerics/non_finite": (~torch.isfinite(gradient)).sum(1).float(),
        }
        for block in BLOCKS:
            a, b = block_range(block)
            size = update[:, a:b].norm(dim=1)
            found[f"block/{block}/grad_norm"] = gradient[:, a:b].norm(dim=1)
            found[f"block/{block}/update_norm"] = size
            found[f"block/{block}/update_ratio"] = size / self.weights[:, a:b].norm(dim=1)
        return {name: value.detach().numpy() for name, value in found.items()}


def _linear(x: Tensor, matrix: Tensor) -> Tensor:
    """[replicas, samples, context, in] by [replicas, in, out]."""
    return torch.bmm(x.flatten(1, 2), matrix).view(*x.shape[:3], -1)


def _normed(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
