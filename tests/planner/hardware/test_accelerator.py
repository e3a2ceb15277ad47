"""The shipped table of accelerators: complete where it must be, found by the names in use, sourced."""

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.planner import hardware
from tenfold.planner.hardware.accelerator import accelerator, accelerators, beside_reference
from tenfold.planner.hardware.cluster import default_cluster, fabric, fabrics, measured_tiers

FOLDER = Path(hardware.__file__).parent
IN_USE = {  # names that published measurements give: accelerator, devices, of one host, GB/s of one device's network
    "A100 (multi-node, 4x200G HDR)": ("A100-80GB-SXM", 512, 8, 12.5),
    "A100 (single node 8-GPU)": ("A100-80GB-SXM", 8, 8, 25),
    "A100-40GB": ("A100-40GB-SXM", 128, 8, 25),
    "A100-80GB": ("A100-80GB-SXM", 64, 8, 25),
    "A100-80GB (Jean Zay, 4xOPA100/node)": ("A100-80GB-SXM", 384, 8, 6.25),
    "A100-80GB (Selene)": ("A100-80GB-SXM", 3072, 8, 25),
    "A100-80GB-SXM (4x100G RoCE/node)": ("A100-80GB-SXM", 1024, 8, 6.25),
    "B200": ("B200", 8, 8, 50),
    "B200 (printed H200)": ("B200", 16, 8, 50),
    "DGX-B200": ("B200", 1024, 8, 50),
    "DGX-B300": ("B300", 256, 8, 100),
    "DGX-GB200": ("GB200", 256, 4, 50),
    "DGX-GB300": ("GB300", 256, 4, 100),
    "DGX-H100": ("H100-SXM", 1024, 8, 50),
    "H100-80GB-SXM": ("H100-SXM", 512, 8, 50),
    "H100-80GB-SXM (DGX Cloud)": ("H100-SXM", 2048, 8, 50),
    "H100-80GB-SXM (HF cluster, 8 GPU/node, EFA)": ("H100-SXM", 512, 8, 50),
    "H200": ("H200-SXM", 16, 8, 50),
    "TPU v5e (1x v5e-256 slices)": ("TPU v5e", 256, 8, 3.125),
    "TPU v5e (32x v5e-256 slices)": ("TPU v5e", 8192, 8, 3.125),
    "TPU7x Ironwood": ("TPU7x", 256, 4, 0),
    "V100-32GB/16GB (Jean Zay, 4 GPU/node)": ("V100-SXM2", 8, 4, 12.5),
}


@pytest.mark.parametrize("name", IN_USE)
def test_names_in_use_mean_one_device_host_and_network(name: str) -> None:
    device, devices, node, network = IN_USE[name]
    cluster = default_cluster(name, devices)
    assert (cluster.accelerator.name, cluster.node_devices) == (device, node)
    assert cluster.accelerator.nic_bandwidth == network * 1e9
    assert cluster.tiers[-1].devices == cluster.devices == devices


def test_every_name_and_alias_is_found_whatever_the_case_and_means_one_device() -> None:
    seen: dict[str, str] = {}
    for row in csv.DictReader((FOLDER / "accelerators.csv").read_text(encoding="utf-8").splitlines()):
        for name in (row["name"], *filter(None, row["aliases"].split(";"))):
            assert accelerator(name.upper()) == accelerator(f" {name.lower()} ") == accelerator(row["name"])
            assert seen.setdefault(name.casefold(), row["name"]) == row["name"], f"{name} means two devices"


def test_figures_carry_over_in_base_units() -> None:
    h100 = accelerator("H100")
    assert h100.peak_flops == {"fp32": 67e12, "fp16": 989e12, "bf16": 989e12, "fp8": 1979e12}
    assert h100.achievable == {"bf16": 0.803, "fp8": 0.709}
    assert (h100.memory_bytes, h100.memory_bandwidth, h100.nic_bandwidth) == (80e9, 3.35e12, 50e9)
    custom = accelerator("H100 (torchtitan)")
    assert (custom.memory_bytes, custom.memory_bandwidth, custom.power_watts) == (96e9, 2.4e12, 500)
    assert accelerator("A100-40GB").memory_bytes == 40e9
    assert "bf16" not in accelerator("V100").peak_flops


def test_the_table_is_plausible_and_sourced() -> None:
    for device in accelerators():
        assert device.source, device.name
        assert device.peak_flops, device.name
        assert device.achievable.keys() <= device.peak_flops.keys(), device.name
        assert all(0.3 < share < 1 for share in device.achievable.values()), device.name
        assert all(1e12 < peak < 1e17 for peak in device.peak_flops.values()), device.name
        assert 1e10 < device.memory_bytes < 1e12 and 1e11 < device.memory_bandwidth < 1e14, device.name
        assert device.domain_devices >= 1 and device.link_bandwidth > device.nic_bandwidth, device.name
    assert {device.name for device in accelerators() if device.announced} == {"Rubin", "MI455X"}


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(InputError, match=r"unknown accelerator 'H1O0'; did you mean 'H100-SXM'"):
        accelerator("H1O0")
    with pytest.raises(InputError, match=r"unknown accelerator 'qqq'; known are V100-SXM2, .*TPU7x"):
        accelerator("qqq")


@given(name=st.sampled_from([device.name for device in accelerators()]), devices=st.integers(1, 10**7))
def test_a_default_cluster_always_adds_up(name: str, devices: int) -> None:
    try:
        cluster = default_cluster(name, devices)
    except InputError as error:
        assert not accelerator(name).nic_bandwidth and "not published" in str(error)
        return
    assert cluster.devices + cluster.idle == devices and cluster.nodes * cluster.node_devices == cluster.devices
    sizes = [tier.devices for tier in cluster.tiers]
    assert sizes[-1] == cluster.devices and sizes[0] <= cluster.accelerator.domain_devices
    assert 2 * sizes[0] >= min(cluster.accelerator.domain_devices, devices), "half of what the link can join"
    assert cluster.idle < max(cluster.node_devices, sizes[0]) + cluster.node_devices
    assert all(outside % inside == 0 and outside > inside for inside, outside in itertools.pairwise(sizes))
    assert all(tier.bandwidth > 0 and tier.latency > 0 for tier in cluster.tiers)


@pytest.mark.parametrize(
    ("hardware", "devices", "used", "node", "domain"),
    [
        ("H100", 100, 96, 8, 8),
        ("H100", 97, 96, 8, 8),
        ("H100", 1000, 1000, 8, 8),
        ("H100", 5, 5, 5, 5),
        ("GB200", 256, 256, 4, 64),
        ("GB200", 388, 384, 4, 64),
        ("GB200", 7, 4, 4, 4),
        ("H100-NVL", 7, 6, 6, 2),
        ("TPU v5p", 10_001, 10_000, 4, 5000),
    ],
)
def test_what_fills_no_host_or_domain_stays_idle(
    hardware: str, devices: int, used: int, node: int, domain: int
) -> None:
    cluster = default_cluster(hardware, devices)
    assert (cluster.devices, cluster.idle, cluster.node_devices) == (used, devices - used, node)
    assert cluster.tiers[0].devices == domain


@given(name=st.sampled_from([device.name for device in accelerators()]), devices=st.integers(1, 10**6))
def test_a_measured_run_keeps_all_its_devices(name: str, devices: int) -> None:
    try:
        tiers = measured_tiers(name, devices)
    except InputError as error:
        assert "not published" in str(error)
        return
    assert tiers[-1].devices == devices and 2 * tiers[0].devices >= min(accelerator(name).domain_devices, devices)


def test_a_default_cluster_needs_a_device() -> None:
    with pytest.raises(InputError, match="H100: 0 devices; a cluster has at least 1"):
        default_cluster("H100", 0)


def test_two_hosts_of_a_system_with_small_hosts_are_two_domains() -> None:
    cluster = default_cluster("V100-32GB/16GB (Jean Zay, 4 GPU/node)", 8)
    assert [tier.devices for tier in cluster.tiers] == [4, 8]
    assert replace(cluster.accelerator, domain_devices=8) == accelerator("V100")


def test_fabrics_grow_outwards_and_are_sourced() -> None:
    for one in fabrics():
        sizes = [level.devices for level in one.levels]
        assert sizes == sorted(set(sizes)), one.name
        assert all(level.source and level.oversubscription >= 1 and level.latency > 0 for level in one.levels), one.name
    assert fabric("meta-24k-roce").levels[1].oversubscription == 7
    with pytest.raises(InputError, match="unknown fabric 'meta-24k'; did you mean 'meta-24k-roce'"):
        fabric("meta-24k")


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("H100-SXM", 1.0),
        ("H100-96GB-500W", (500 / 700) ** 0.5),
        ("H100 SXM, capped at 500 W", (500 / 700) ** 0.5),
        ("H100 (700W)", 1.0),
        ("A100-80GB-PCIe", 0.869 / 0.803 * (300 / 400) ** 0.5),
        ("MI300X", 0.514 / 0.803),
        ("TPU v4", 1.0),
    ],
)
def test_a_part_with_less_power_reaches_less_of_its_peak(name: str, share: float) -> None:
    assert beside_reference(accelerator(name)) == pytest.approx(share, rel=1e-3)
