"""Whether the real argument parsers take what the planner exports.

    python benchmarks/plan_exports.py [--megatron CHECKOUT] [--torchtitan FOLDER]

CHECKOUT is a clone of NVIDIA/Megatron-LM (its `megatron` folder is imported; `parse_args` and `validate_args` run as
for an H100, no GPU is needed). FOLDER is an unpacked wheel of torchtitan 0.2.2, the last that reads TOML. What they
import (einops, triton, tyro) is installed for this alone, say with `pip install --target` and PYTHONPATH. Each export
is parsed by a process of its own.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tenfold.planner.codesign.known import known_model
from tenfold.planner.cost.layout import Layout
from tenfold.planner.export.job import Job
from tenfold.planner.export.megatron import megatron_arguments
from tenfold.planner.export.torchtitan import torchtitan_toml
from tenfold.planner.hardware.accelerator import Precision
from tenfold.planner.hardware.cluster import default_cluster

MEGATRON = """
import sys, typing, typing_extensions
typing.override = typing_extensions.override
import torch
torch.cuda.get_device_capability = lambda *_: (9, 0)
torch.cuda.get_device_properties = lambda *_: type("Properties", (), {"major": 9, "minor": 0})()
sys.path.insert(0, sys.argv.pop(1))
import os
os.environ.update(WORLD_SIZE=sys.argv.pop(1), RANK="0", CUDA_DEVICE_MAX_CONNECTIONS=sys.argv.pop(1))
from megatron.training.arguments import parse_args, validate_args
validate_args(parse_args(), {})
"""
TORCHTITAN = """
import sys
sys.path.insert(0, sys.argv[1])
from torchtitan.config import ConfigManager
ConfigManager().parse_args(["--job.config_file", sys.argv[2]])
"""
PLAIN = Layout(tensor=1.0, pipeline=1.0, data=8.0, micro_batch=1.0, accumulation=4.0)


def job(model: str, precision: Precision = "bf16", **layout: float) -> Job:
    """A job of a known model."""
    laid_out = replace(PLAIN, **layout)  # type: ignore[arg-type]
    devices = int(float(laid_out.devices))
    cluster = default_cluster("H100-SXM", -(-devices // 8) * 8)
    return Job(known_model(model).shape, laid_out, 1e12, precision, cluster)


def jobs() -> dict[str, Job]:
    """Each way that layouts differ in, on dense models, models with experts, and latent attention."""
    return {
        "8B, DDP, full recomputation, fp8": job("Llama-3-8B", "fp8", sharding=0.0, recomputation=2.0),
        "8B, ZeRO 1, tensor 2": job("Llama-3-8B", tensor=2.0),
        "8B, ZeRO 2": job("Llama-3-8B", sharding=2.0),
        "8B, FSDP": job("Llama-3-8B", sharding=3.0),
        "8B, FSDP in groups": job("Llama-3-8B", sharding=3.0, shard_group=4.0),
        "8B, FSDP, pipeline 2": job("Llama-3-8B", sharding=3.0, pipeline=2.0),
        "8B, selective, fp16": job("Llama-3-8B", "fp16", recomputation=1.0),
        "8B, 16-bit gradients": job("Llama-3-8B", gradient_bytes=2.0),
        "70B, pipeline 8, 5 chunks, context 2": job(
            "Llama-3-70B", tensor=4.0, pipeline=8.0, interleaving=5.0, context=2.0, accumulation=16.0
        ),
        "405B, ends count as layers": job("Llama-3-405B", tensor=8.0, pipeline=16.0, accumulation=16.0),
        "405B, layers one by one": job("Llama-3-405B", tensor=8.0, pipeline=5.0, accumulation=15.0),
        "Mixtral, experts 8, pipeline 4": job("Mixtral-8x7B", expert=8.0, pipeline=4.0, tensor=2.0),
        "Qwen3-30B-A3B, experts 8": job("Qwen3-30B-A3B", expert=8.0),
        "DeepSeek-V3, experts 64, pipeline 16": job(
            "DeepSeek-V3", "fp8", data=64.0, expert=64.0, pipeline=16.0, accumulation=16.0
        ),
        "nanoGPT": job("nanoGPT-124M"),
    }


def parsed(code: str, *words: str) -> str:
    """Blank where the parser takes it, else the last line that it says."""
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no word"])[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megatron", type=Path)
    parser.add_argument("--torchtitan", type=Path)
    given = parser.parse_args()
    for name, each in jobs().items():
        if given.megatron:
            links = "32" if float(each.layout.sharding) >= 2 and float(each.layout.pipeline) == 1 else "1"
            said = parsed(MEGATRON, str(given.megatron), str(each.devices), links, *megatron_arguments(each))
            print(f"Megatron-LM  {name}: {said or 'valid'}", flush=True)
        if given.torchtitan:
            text = torchtitan_toml(each)
            if "Not exported: " in text:
                print(f"torchtitan   {name}: not exported", flush=True)
                continue
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "job.toml"
                path.write_text(text, encoding="utf-8")
                print(
                    f"torchtitan   {name}: {parsed(TORCHTITAN, str(given.torchtitan), str(path)) or 'valid'}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
