"""Accelerators are found by what their names say, however they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.planner.hardware.accelerator import accelerator, accelerators, usual_host
from tenfold.planner.hardware.names import name_parts

WRITTEN = {
    "A100-80GB (Selene, 8xHDR200)": ("A100-80GB-SXM", 80, 25),
    "NVIDIA A100-SXM4-80GB": ("A100-80GB-SXM", 80, 25),
    "8x A100 80G (SXM)": ("A100-80GB-SXM", 80, 25),
    "A100_40GB_SXM4": ("A100-40GB-SXM", 40, 25),
    "A100 40 GiB": ("A100-40GB-SXM", 40, 25),
    "A100 (8 x 100 Gb/s RoCE)": ("A100-80GB-SXM", 80, 12.5),
    "8xH100": ("H100-SXM", 80, 50),
    "H100SXM": ("H100-SXM", 80, 50),
    "H100 80GB HBM3 [our lab; NDR]": ("H100-SXM", 80, 50),
    "H100 (4x200G HDR)": ("H100-SXM", 80, 12.5),
    "NVIDIA H100 PCIe, 80 GB": ("H100-PCIe", 80, 50),
    "H100-NVL 94GB": ("H100-NVL", 94, 50),
    "H100 96GB HBM2e (500 W)": ("H100-96GB-500W", 96, 50),
    "GB200 NVL72 (64 GPUs)": ("GB200", 186, 50),
    "B200 192GB": ("B200", 180, 50),
    "Tesla V100 16GB": ("V100-SXM2", 16, 12.5),
    "TPU-v5e": ("TPU v5e", 16, 3.125),
    "v5litepod-256": ("TPU v5e", 16, 3.125),
    "TPU v5p (pod slice)": ("TPU v5p", 95, 6.25),
    "Google TPU v6e, Trillium": ("TPU v6e", 32, 12.5),
    "TPU v7 (Ironwood)": ("TPU7x", 192, 0),
    "AMD Instinct MI300X (OAM)": ("MI300X", 192, 50),
    "trn2.48xlarge": ("Trainium2", 96, 25),
    "2 x GeForce RTX 4090 24 GB": ("RTX 4090", 24, 0),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_names_are_taken_apart(name: str) -> None:
    device, memory, network = WRITTEN[name]
    found = accelerator(name)
    assert (found.name, found.memory_bytes, found.nic_bandwidth) == (device, memory * 1e9, network * 1e9)


@pytest.mark.parametrize("name", ["MyGPU", "H1000", "P100", "H1O0", "my 80GB card", "", "²", "L40", "TPU"])
def test_a_family_that_there_is_not_is_unknown(name: str) -> None:
    with pytest.raises(InputError, match="unknown accelerator"):
        accelerator(name)


SITES = st.sampled_from(["our lab", "cloud", "Eos", "rail-optimised", "nodes behind one switch"])


@given(device=st.sampled_from(accelerators()), site=SITES, brackets=st.sampled_from(["()", "[]", "{}"]))
def test_a_site_in_brackets_changes_nothing(device: object, site: str, brackets: str) -> None:
    name = device.name  # type: ignore[attr-defined]
    if not name_parts(name).family:
        return
    assert usual_host(f"{name} {brackets[0]}{site}{brackets[1]}") == usual_host(name)


@given(st.text(max_size=60))
def test_any_text_is_a_device_or_one_line(text: str) -> None:
    try:
        accelerator(text)
    except InputError as error:
        assert "\n" not in str(error).replace(repr(text), "")
