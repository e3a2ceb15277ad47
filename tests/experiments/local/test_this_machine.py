"""The machine at hand as a cluster: what was measured and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from tenfold.experiments.local.this_machine import as_measured, describe_local
from tenfold.machine import MachineDescription, describe_machine
from tenfold.planner.hardware.accelerator import accelerator
from tenfold.planner.hardware.cluster import Cluster
from tenfold.planner.hardware.load import load_cluster, parse_cluster
from tenfold.planner.hardware.write import render_cluster

ROOT = Path(__file__).parents[3]
MAIN = "from tenfold.cli import main; main()"


def without_gpus(peaks: dict[str, float]) -> MachineDescription:
    return MachineDescription(
        environment={"cpu": "A CPU", "cores": 2, "instruction_set": "AVX2", "gpus": []},
        peak_flops=peaks,
        memory_bytes=16_000_000_123,
        memory_bandwidth=12_345_678_901.2,
        disk_write_bandwidth=98_765_432.1,
        disk_free_bytes=10**11,
        cpp_compiler=True,
        deterministic=True,
    )


def test_a_cpu_is_one_device_with_the_peaks_that_were_measured() -> None:
    cluster = describe_local(without_gpus({"float32": 123_456_789_012.0, "bfloat16": 4_567_890_123.0}))
    assert cluster.devices == cluster.node_devices == cluster.tiers[0].devices == 1
    assert cluster.accelerator.peak_flops == {"fp32": 123e9, "bf16": 4.57e9}  # slow bf16 stays slow
    assert cluster.accelerator.achievable == {"fp32": 1.0, "bf16": 1.0}
    assert cluster.accelerator.memory_bytes == cluster.host_memory_bytes == 16_000_000_123
    assert (cluster.accelerator.memory_bandwidth, cluster.storage_bandwidth) == (12.3e9, 98.8e6)
    assert parse_cluster(render_cluster(cluster), "cluster.toml") == cluster


def test_a_gpu_of_the_table_keeps_its_peak_beside_the_share_that_was_measured() -> None:
    device = as_measured(accelerator("NVIDIA L4"), {"fp32": 15.15e12, "bf16": 130e12}, 23.6e9)
    assert device.peak_flops == accelerator("L4").peak_flops
    assert device.achievable == {"fp32": 0.5, "bf16": 1.0}
    assert (device.memory_bytes, device.memory_bandwidth) == (23.6e9, 300e9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpus_are_the_devices(tmp_path: Path) -> None:
    cluster = describe_local(describe_machine(tmp_path))
    assert cluster.devices == torch.cuda.device_count()
    assert cluster.accelerator.memory_bytes == torch.cuda.get_device_properties(0).total_memory
    assert all(0 < share <= 1 for share in cluster.accelerator.achievable.values())
    assert parse_cluster(render_cluster(cluster), "cluster.toml") == cluster


def test_doctor_writes_this_machine_down(tmp_path: Path) -> None:
    arguments = ["doctor", str(tmp_path), "--write", str(tmp_path / "cluster.toml"), "--json"]
    done = doctor(arguments, tmp_path)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    cluster = load_cluster(tmp_path / "cluster.toml")
    assert close(cluster.accelerator.peak_flops["fp32"], measured["peak_flops"]["float32"]) or torch.cuda.is_available()
    assert close(cluster.storage_bandwidth, measured["disk_write_bandwidth"])
    assert cluster.host_memory_bytes == psutil.virtual_memory().total
    assert_one_host(cluster)


def test_doctor_says_where_it_cannot_write(tmp_path: Path) -> None:
    done = doctor(["doctor", str(tmp_path), "--write", str(tmp_path / "gone" / "cluster.toml")], tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {tmp_path}/gone/cluster.toml: cannot be written (No such file or directory); make its folder first"
    ]


def test_looking_up_hardware_does_not_load_torch() -> None:
    code = "import sys; from tenfold.planner.hardware.cluster import default_cluster; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def doctor(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-c", MAIN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT)


def close(rounded: float, exact: float) -> bool:
    return abs(rounded / exact - 1) < 0.01


def assert_one_host(cluster: Cluster) -> None:
    assert cluster.nodes == 1 and cluster.wide is None and len(cluster.tiers) == len(cluster.sites) == 1
