"""Tokens per second of tenfold beside nanoGPT's loop and Hugging Face Trainer, on the same shape, text and machine.

    python benchmarks/throughput.py [--threads 1 2] [--size 10M 1M] [--json FILE]

Every contender runs in a process of its own, with AdamW, and is measured after warm-up by its median step. tenfold is
measured from its own ledger, through `tenfold train` as everybody runs it: stream, logging, journal and all.
nanoGPT is no package: its training loop and model are written here in our own words (LayerNorm, learned positions,
fused qkv, GELU, scaled_dot_product_attention, a separate head so that parameters are equal in number, random windows
of a memory map, autocast, clipping, fused AdamW). Trainer trains transformers' own Qwen3, the shape tenfold trains.
Contenders in bf16 are skipped, by name, on a CPU that only emulates it: there they take ten times as long.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTEXT, VOCABULARY = 256, 8192
WARM_UP, MEASURED = 2, 6


@dataclass(frozen=True)
class Size:
    """A model shape and the sequences of one step."""

    depth: int
    width: int
    head_dim: int
    sequences: int

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.sequences * CONTEXT


SIZES = {"10M": Size(8, 256, 32, 16), "1M": Size(4, 64, 32, 16)}
CONTENDERS = {
    "tenfold, eager": ("tenfold", "auto", False),
    "tenfold, compiled": ("tenfold", "auto", True),
    "nanoGPT loop, bf16 autocast, eager": ("nanogpt", "bf16", False),
    "nanoGPT loop, bf16 autocast, compiled": ("nanogpt", "bf16", True),
    "nanoGPT loop, float32, eager": ("nanogpt", "float32", False),
    "nanoGPT loop, float32, compiled": ("nanogpt", "float32", True),
    "Hugging Face Trainer, float32, eager": ("trainer", "float32", False),
    "Hugging Face Trainer, float32, compiled": ("trainer", "float32", True),
    "Hugging Face Trainer, bf16 autocast, compiled": ("trainer", "bf16", True),
}


def make_corpus(directory: Path) -> None:
    """A campaign on the standard library's text with the benchmark's vocabulary, its corpus built."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "campaign.toml").write_text(
        '[data]\nsources = [{ kind = "python-stdlib" }]\n'
        'holdouts = [{ name = "iid", kind = "split", max_bytes = 20000 }]\n'
        f"tokenizer = {{ vocab_size = {VOCABULARY} }}\n"
    )
    subprocess.run([sys.executable, "-m", "tenfold", "data", str(directory)], check=True, stdout=subprocess.DEVNULL)


def tokens_of(corpus: Path) -> Any:
    """All training tokens, memory-mapped."""
    import numpy as np

    return np.memmap(next((corpus / "data" / "shards").glob("*.bin")), dtype=np.uint16, mode="r")


def run_tenfold(corpus: Path, size: Size, threads: int, precision: str, compiled: bool) -> dict[str, float]:
    """`tenfold train`; seconds of each step from the ledger."""
    from tenfold.campaign import run_train
    from tenfold.ledger import Ledger

    with tempfile.TemporaryDirectory() as work:
        campaign = Path(work) / "campaign"
        campaign.mkdir()
        (campaign / "data").symlink_to((corpus / "data").resolve())
        (campaign / "campaign.toml").write_text((corpus / "campaign.toml").read_text())
        settings = {
            "model.depth": size.depth,
            "model.width": size.width,
            "model.head_dim": size.head_dim,
            "model.context": CONTEXT,
            "train.batch_tokens": size.tokens,
            "train.tokens": size.tokens * (WARM_UP + MEASURED),
            "train.threads": threads,
            "train.precision": precision,
            "train.compile": "on" if compiled else "off",
            "train.log_every": 1,
            "train.optimizer.kind": "adamw",
            "evaluate.every": 10**6,
            "evaluate.during_bytes": 1,
            "checkpoint.every": 10**6,
        }
        run_train(campaign, [f"{key}={value}" for key, value in settings.items()])
        ledger = Ledger(campaign / "ledger.sqlite", read_only=True)
        curves = {
            name: [value for _, value in ledger.metric(1, f"train/{name}")][WARM_UP:]
            for name in ("tokens_per_second", "mfu", "overhead")
        }
        ledger.close()
    return {name: statistics.median(values) for name, values in curves.items()}


def run_nanogpt(corpus: Path, size: Size, threads: int, precision: str, compiled: bool) -> dict[str, float]:
    """nanoGPT's loop in our own words."""
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width = size.width
            self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            shape = (*x.shape[:2], -1, size.head_dim)
            q, k, v = (part.view(shape).transpose(1, 2) for part in self.qkv(self.norm_1(x)).chunk(3, dim=-1))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
            return x + self.down(functional.gelu(self.up(self.norm_2(x))))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(VOCABULARY, size.width), nn.Embedding(CONTEXT, size.width)
            self.blocks = nn.ModuleList(Block() for _ in range(size.depth))
            self.norm = nn.LayerNorm(size.width, bias=False)
            self.head = nn.Linear(size.width, VOCABULARY, bias=False)

        def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            x = self.tokens(inputs) + self.places(torch.arange(CONTEXT))
            for block in self.blocks:
                x = block(x)
            return functional.cross_entropy(self.head(self.norm(x)).view(-1, VOCABULARY), targets.reshape(-1))

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model: Any = GPT()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    model = torch.compile(model) if compiled else model
    data, seconds = tokens_of(corpus), []
    autocast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
    for _ in range(WARM_UP + MEASURED):
        start = time.perf_counter()
        starts = torch.randint(len(data) - CONTEXT, (size.sequences,)).tolist()
        inputs = torch.stack([torch.from_numpy(data[i : i + CONTEXT].astype(np.int64)) for i in starts])
        targets = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + CONTEXT].astype(np.int64)) for i in starts])
        with autocast:
            loss = model(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    return {"tokens_per_second": size.tokens / statistics.median(seconds[WARM_UP:]), "parameters": parameters}


def run_trainer(corpus: Path, size: Size, threads: int, precision: str, compiled: bool) -> dict[str, float]:
    """Hugging Face Trainer on transformers' Qwen3 of tenfold's shape."""
    import numpy as np
    import torch
    import transformers

    torch.set_num_threads(threads)
    data = tokens_of(corpus)

    class Windows(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return (len(data) - 1) // CONTEXT

        def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
            tokens = torch.from_numpy(data[number * CONTEXT : (number + 1) * CONTEXT].astype(np.int64))
            return {"input_ids": tokens, "labels": tokens}

    class Clock(transformers.TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: object, **__: object) -> None:
            self.ends.append(time.perf_counter())

    config = transformers.Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=size.width,
        intermediate_size=-(-8 * size.width // 192) * 64,
        num_hidden_layers=size.depth,
        num_attention_heads=size.width // size.head_dim,
        num_key_value_heads=size.width // size.head_dim,
        head_dim=size.head_dim,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        use_cache=False,
    )
    model = transformers.Qwen3ForCausalLM(config)
    clock = Clock()
    with tempfile.TemporaryDirectory() as work:
        arguments = transformers.TrainingArguments(
            output_dir=work,
            max_steps=WARM_UP + MEASURED,
            per_device_train_batch_size=size.sequences,
            use_cpu=True,
            bf16=precision == "bf16",
            torch_compile=compiled,
            optim="adamw_torch_fused",
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        transformers.Trainer(model=model, args=arguments, train_dataset=Windows(), callbacks=[clock]).train()
    seconds = [b - a for a, b in zip(clock.ends, clock.ends[1:], strict=False)][WARM_UP - 1 :]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"tokens_per_second": size.tokens / statistics.median(seconds), "parameters": parameters}


RUNNERS: dict[str, Callable[..., dict[str, float]]] = {
    "tenfold": run_tenfold,
    "nanogpt": run_nanogpt,
    "trainer": run_trainer,
}


def has_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware."""
    import torch

    from tenfold.machine import choose_compute_dtype

    return choose_compute_dtype(torch.device("cpu"), "auto") is torch.bfloat16


def measure(name: str, corpus: Path, size: str, threads: int) -> dict[str, float]:
    """Run one contender in a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--corpus", str(corpus), "--size", size, "--threads"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([*command, str(threads)], stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(corpus: Path, size: str, threads: int) -> dict[str, Any]:
    """All contenders; tenfold's best against the best of the others, and eager against eager."""
    found = {}
    for name, (_, precision, _) in CONTENDERS.items():
        if precision == "bf16" and not has_bf16():
            print(f"{name}: skipped, this CPU has no bf16 instructions", file=sys.stderr)
            continue
        try:
            found[name] = measure(name, corpus, size, threads)
        except subprocess.CalledProcessError:
            print(f"{name}: failed", file=sys.stderr)
            continue
        print(f"{size} {threads} threads: {name}: {found[name]}", file=sys.stderr)
    rates = {name: values["tokens_per_second"] for name, values in found.items()}

    def best(ours: bool, eager: bool) -> float:
        return max(
            (
                rate
                for name, rate in rates.items()
                if name.startswith("tenfold") == ours and (not eager or name.endswith("eager"))
            ),
            default=math.nan,
        )

    return {
        "size": size,
        "threads": threads,
        "contenders": found,
        "ratio_to_best_peer": best(True, False) / best(False, False),
        "ratio_eager_to_best_eager_peer": best(True, True) / best(False, True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--corpus", type=Path, help="where to build or find the corpus")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        runner, precision, compiled = CONTENDERS[arguments.one]
        size, threads = SIZES[arguments.size[0]], arguments.threads[0]
        print(json.dumps(RUNNERS[runner](arguments.corpus, size, threads, precision, compiled)))
        return
    with tempfile.TemporaryDirectory() as work:
        corpus = arguments.corpus or Path(work) / "corpus"
        make_corpus(corpus)
        results = [compare(corpus, size, threads) for size in arguments.size for threads in arguments.threads]
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))
    for result in results:
        print(json.dumps({key: value for key, value in result.items() if key != "contenders"}))


if __name__ == "__main__":
    main()
