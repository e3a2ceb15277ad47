"""Tokens per second and MFU of `tenfold train` on a GPU in bf16 with compile, and whether a stopped run ends equal.

    python benchmarks/gpu.py [--size 124M 1B] [--resume] [--device cuda] [--json FILE]

MFU is against this chip's measured dense bf16 peak (`tenfold doctor`); give --peak to hold it against a data sheet.
The text is the interpreter's own standard library with a vocabulary of 32k, so nothing is downloaded.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from tenfold.ledger import Ledger
from tenfold.machine import choose_compute_dtype, measured_peak, usable_cores

STEPS, WARM_UP = 30, 10


@dataclass(frozen=True)
class Size:
    """A shape and its batch."""

    depth: int
    width: int
    head_dim: int
    context: int
    vocab_size: int
    batch_tokens: int
    micro_batch: int


SIZES = {
    "124M": Size(12, 768, 64, 1024, 32768, 2**19, 32),
    "1B": Size(16, 2048, 128, 2048, 32768, 2**18, 8),
    "tiny": Size(2, 64, 32, 64, 512, 2**10, 8),  # to try this script where there is no GPU
}


def make_campaign(directory: Path, size: Size, device: str) -> None:
    """campaign.toml and corpus."""
    directory.mkdir()
    (directory / "campaign.toml").write_text(
        '[data]\nsources = [{ kind = "python-stdlib" }]\n'
        'holdouts = [{ name = "iid", kind = "split", max_bytes = 20000 }]\n'
        f"tokenizer = {{ vocab_size = {size.vocab_size} }}\n"
        f"[model]\ndepth = {size.depth}\nwidth = {size.width}\nhead_dim = {size.head_dim}\ncontext = {size.context}\n"
        f"[train]\ntokens = {size.batch_tokens * STEPS}\nbatch_tokens = {size.batch_tokens}\n"
        f'micro_batch = {size.micro_batch}\ndevice = "{device}"\ncompile = "{"on" if device == "cuda" else "off"}"\n'
        "log_every = 1\n[evaluate]\nevery = 1000000\nduring_bytes = 1\n[checkpoint]\nevery = 1000000\n"
    )
    subprocess.run([sys.executable, "-m", "tenfold", "data", str(directory)], check=True, stdout=subprocess.DEVNULL)


def train(directory: Path, stop_at: int | None = None) -> str | None:
    """`tenfold train`; its weights digest, or None when it was stopped by SIGTERM after step `stop_at`."""
    command = [sys.executable, "-m", "tenfold", "train", str(directory), "--json"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        for line in process.stderr:
            print(line, end="", file=sys.stderr)
            if stop_at is not None and line.startswith(f"step {stop_at:>2}/"):
                process.send_signal(signal.SIGTERM)
        out = process.stdout.read()
    return str(json.loads(out)["weights_digest"]) if process.returncode == 0 else None


def peak_of(device: str) -> float:
    """The measured peak that MFU was a share of, FLOP/s."""
    where = torch.device(device)
    return measured_peak(where, usable_cores(), choose_compute_dtype(where, "auto")).flops


def forget(directory: Path) -> None:
    """Leave only the corpus."""
    for path in [*directory.glob("checkpoints/*/*"), directory / "train.json", *directory.glob("ledger.sqlite*")]:
        path.unlink()
    for path in directory.glob("checkpoints/*"):
        path.rmdir()


def measure(name: str, device: str, peak: float | None, resume: bool) -> dict[str, object]:
    """One size."""
    size = SIZES[name]
    with tempfile.TemporaryDirectory() as work:
        directory = Path(work) / "campaign"
        make_campaign(directory, size, device)
        digest = train(directory)
        ledger = Ledger(directory / "ledger.sqlite", read_only=True)
        rate, mfu = (
            statistics.median(value for step, value in ledger.metric(1, f"train/{what}") if step > WARM_UP)
            for what in ("tokens_per_second", "mfu")
        )
        ledger.close()
        measured = peak_of(device)
        result: dict[str, object] = {"size": name, "tokens_per_second": rate, "mfu": mfu, "peak_flops": measured}
        if peak:
            result["mfu_of_data_sheet"] = mfu * measured / peak
        if resume:
            forget(directory)
            stopped = train(directory, stop_at=12)
            result["resumed_equal"] = stopped is None and train(directory) == digest
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["124M", "1B"])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--peak", type=float, help="FLOP/s of the data sheet, such as 989e12 for an H100 SXM")
    parser.add_argument("--resume", action="store_true", help="also stop a run, resume it, and compare the weights")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = [measure(name, arguments.device, arguments.peak, arguments.resume) for name in arguments.size]
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))
    for result in results:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
