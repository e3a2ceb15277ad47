"""Clusters in TOML: read, written, and refused in one clear line."""

import math
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.planner.hardware.accelerator import PRECISIONS, Accelerator, accelerator, accelerators, scaled
from tenfold.planner.hardware.cluster import Cluster, Site, Tier, Wide, default_cluster
from tenfold.planner.hardware.load import (
    BetweenSitesSection,
    ClusterSection,
    SiteSection,
    TierSection,
    example_cluster,
    example_clusters,
    example_text,
    load_cluster,
    parse_cluster,
)
from tenfold.planner.hardware.write import render_cluster, write_cluster
from tests.planner.hardware.page import PAGE, tables
from tests.planner.tables import rewritten

HEAD = 'name = "x"\naccelerator = "H100"\ndevices = 64\n'
INNER = '[[tiers]]\nname = "a"\ndevices = 8\nbandwidth_gb_per_s = 450\nlatency_us = 3\n'
OUTER = '[[tiers]]\nname = "b"\ndevices = 64\nbandwidth_gb_per_s = 50\nlatency_us = 9\n'
SITES = '[[sites]]\nname = "a"\ndevices = 48\n[[sites]]\nname = "b"\ndevices = 16\n'
BETWEEN = "[between_sites]\nbandwidth_gb_per_s = 1.5\nlatency_ms = 20\n"
OWN = (
    '[device]\nname = "d"\nmemory_gb = 1\nmemory_gb_per_s = 1\nlink = "NVLink"\nlink_gb_per_s = 1\ndomain_devices = 8\n'
)

figures = st.integers(1, 10**14).map(float)  # up to 15 digits, which is what is promised
latencies = st.integers(0, 10**14).map(lambda picoseconds: scaled(picoseconds, -12))
maybe_zero = st.one_of(st.just(0.0), figures)
names = st.text(min_size=1, max_size=20)
texts = st.text(max_size=40)
ratios = st.integers(100, 10**6).map(lambda hundredths: hundredths / 100)
shares = st.integers(1, 1000).map(lambda thousandths: thousandths / 1000)


@st.composite
def devices(draw: st.DrawFn) -> Accelerator:
    given_peaks = draw(st.lists(st.sampled_from(PRECISIONS), min_size=1, unique=True))
    peaks = {kind: draw(figures) * 1e3 for kind in PRECISIONS if kind in given_peaks}
    return Accelerator(
        name=draw(names),
        vendor=draw(texts),
        announced=draw(st.booleans()),
        peak_flops=peaks,
        achievable={kind: draw(shares) for kind in peaks if draw(st.booleans())},
        memory_bytes=draw(figures),
        memory_bandwidth=draw(figures),
        link=draw(names),
        link_bandwidth=draw(figures),
        domain_devices=draw(st.integers(1, 10**4)),
        nic_bandwidth=draw(maybe_zero),
        power_watts=min(draw(maybe_zero), 1e12),
        source=draw(texts),
        notes=draw(texts),
    )


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Any cluster that can be: sites are whole domains, domains are whole hosts, each level a multiple of the last."""
    node = draw(st.integers(1, 16))
    steps = [node * draw(st.integers(1, 4)), *draw(st.lists(st.integers(2, 9), max_size=3))]
    sizes = [math.prod(steps[: number + 1]) for number in range(len(steps))]
    site_names = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    site_sizes = [sizes[-1], *(sizes[0] * draw(st.integers(1, sizes[-1] // sizes[0])) for _ in site_names[1:])]
    several = len(site_names) > 1
    return Cluster(
        name=draw(names),
        accelerator=draw(st.one_of(st.sampled_from(accelerators()), devices())),
        devices=sum(site_sizes),
        node_devices=node,
        tiers=tuple(Tier(draw(names), size, draw(figures), draw(ratios), draw(latencies)) for size in sizes),
        sites=tuple(Site(name, size) for name, size in zip(site_names, site_sizes, strict=True)),
        wide=Wide(draw(figures), draw(latencies)) if several else None,
        host_memory_bytes=draw(maybe_zero),
        storage_bandwidth=draw(figures),
        price_per_device_hour=draw(ratios),
        power_usage_effectiveness=draw(ratios),
    )


@settings(max_examples=60)
@given(clusters())
def test_what_is_written_is_read_back(cluster: Cluster) -> None:
    assert parse_cluster(render_cluster(cluster), "cluster.toml") == cluster


@pytest.mark.parametrize("name", example_clusters())
def test_examples_are_read_and_written(name: str, tmp_path: Path) -> None:
    cluster = example_cluster(name)
    write_cluster(cluster, tmp_path / "cluster.toml")
    assert load_cluster(tmp_path / "cluster.toml") == cluster
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.toml"]
    assert example_text(name).startswith("# ")


def test_examples_are_the_machines_they_say() -> None:
    llama = example_cluster("llama3-16k")
    assert [(tier.devices, tier.usable_bandwidth / 1e9) for tier in llama.tiers] == [
        (8, 450),
        (2048, 50),
        (16384, pytest.approx(50 / 7)),
    ]
    assert llama.storage_bandwidth == 2e12
    sites = example_cluster("four-sites")
    assert sites.wide == Wide(12.5e9, 0.010) and sites.tiers[-1].devices == 1024
    assert example_cluster("gb200-nvl72").tiers[0].devices == 72
    scenario = example_cluster("rubin-scenario")
    assert scenario.devices > 10**7 and scenario.accelerator.announced and len(scenario.sites) == 10
    assert example_cluster("rtx4090").devices == 1


def test_defaults_are_those_of_a_default_cluster() -> None:
    cluster = parse_cluster('name = "64 x DGX-H100"\naccelerator = "DGX-H100"\ndevices = 64', "cluster.toml")
    assert cluster == default_cluster("DGX-H100", 64)


def test_sites_of_different_sizes_share_what_divides_both() -> None:
    cluster = parse_cluster(
        HEAD.replace("64", "480")
        + 'fabric = "dgx-superpod"\n'
        + SITES.replace("48", "320").replace("16", "160")
        + BETWEEN,
        "cluster.toml",
    )
    assert [tier.devices for tier in cluster.tiers] == [8, 160, 320]
    assert cluster.sites == (Site("a", 320), Site("b", 160)) and cluster.wide == Wide(1.5e9, 0.02)


def test_a_fabric_stops_at_the_size_of_a_site() -> None:
    cluster = parse_cluster(HEAD.replace("64", "2048") + 'fabric = "mrc"', "cluster.toml")
    assert [(tier.name, tier.devices) for tier in cluster.tiers] == [("NVLink4", 8), ("leaf", 256), ("plane", 2048)]
    assert cluster.tiers[1].bandwidth == accelerator("H100").nic_bandwidth


def test_domains_may_be_parts_of_a_host() -> None:
    cluster = parse_cluster(HEAD.replace("H100", "H100-NVL"), "cluster.toml")
    assert (cluster.node_devices, [tier.devices for tier in cluster.tiers]) == (8, [2, 64])


def without(*lines: str) -> str:
    return "".join(f"{line}\n" for line in HEAD.splitlines() if not line.startswith(lines))


BAD = {
    "no devices": (HEAD.replace("64", "0"), "devices = 0: input should be greater than 0"),
    "half a device": (HEAD.replace("64", "6.5"), "devices = 6.5: input should be a valid integer"),
    "more devices than there can be": (
        HEAD.replace("64", "10000000000"),
        "devices = 10000000000: .* less than or equal",
    ),
    "no name": (without("name"), "name: Field required"),
    "an unknown accelerator": (HEAD.replace("H100", "H10O"), "unknown accelerator 'H10O'; did you mean 'H100-SXM'"),
    "a misspelt key": (HEAD.replace("acc", "ac"), "unknown key 'acelerator'; did you mean 'accelerator'"),
    "a misspelt key of a tier": (
        HEAD + INNER + "bandwith = 3",
        r"'tiers\[0\].bandwith'; did you mean 'bandwidth_gb_per_s'",
    ),
    "no accelerator": (without("accelerator"), r"by one of `accelerator` and \[device\]"),
    "two accelerators": (HEAD + OWN, r"by one of `accelerator` and \[device\]"),
    "hosts that do not divide": (
        HEAD + "node_devices = 7",
        "node_devices = 7: 64 devices are not a whole number of hosts",
    ),
    "empty hosts": (HEAD + "node_devices = 0", "node_devices = 0: input should be greater than 0"),
    "a domain beyond its link": (HEAD + "domain_devices = 16", "domain_devices = 16: NVLink4 of H100-SXM joins 8"),
    "a domain across hosts": (HEAD + "domain_devices = 3", "domain_devices = 3: neither whole hosts of 8"),
    "a domain across the end": (
        HEAD.replace("H100", "GB200") + "domain_devices = 48",
        "48: 64 devices are not a whole number",
    ),
    "zero bandwidth": (
        HEAD + INNER.replace("450", "0") + OUTER,
        r"tiers\[0\].bandwidth_gb_per_s = 0: .* greater than 0",
    ),
    "negative bandwidth": (
        HEAD + INNER + OUTER.replace("50", "-50"),
        r"tiers\[1\].bandwidth_gb_per_s = -50: .* greater",
    ),
    "negative latency": (
        HEAD + INNER + OUTER.replace("9", "-9"),
        r"tiers\[1\].latency_us = -9: .* greater than or equal",
    ),
    "infinite bandwidth": (HEAD + "storage_gb_per_s = inf", "storage_gb_per_s = inf: input should be a finite number"),
    "storage beyond any": (HEAD + "storage_gb_per_s = 1e300", "storage_gb_per_s = 1e.300: .* less than or equal"),
    "storage below any": (
        HEAD + "storage_gb_per_s = 1e-300",
        "storage_gb_per_s = 1e-300: input should be at least 1e-09",
    ),
    "zero storage": (HEAD + "storage_gb_per_s = 0", "storage_gb_per_s = 0: input should be greater than 0"),
    "undersubscription": (HEAD + INNER + OUTER + "oversubscription = 0.5", "oversubscription = 0.5: .* equal to 1"),
    "tiers that do not divide": (
        HEAD + INNER + OUTER.replace("64", "60"),
        r"tiers\[1\].devices = 60: not a multiple of .* 8",
    ),
    "a tier twice": (HEAD + INNER + INNER, r"tiers\[1\].devices = 8: not a multiple of the level before, 8"),
    "tiers that end early": (
        HEAD + INNER,
        r"tiers\[0\].devices = 8: the last level joins the largest site, which has 64",
    ),
    "tiers beyond the devices": (
        HEAD + INNER + OUTER.replace("64", "128"),
        r"tiers\[1\].devices = 128: the last level",
    ),
    "a first tier across hosts": (
        HEAD + INNER.replace("8", "12") + OUTER,
        r"tiers\[0\].devices = 12: neither whole hosts",
    ),
    "tiers and a fabric": (HEAD + 'fabric = "mrc"\n' + INNER + OUTER, r"fabric and \[\[tiers\]\] both describe"),
    "tiers and a domain": (
        HEAD + "domain_devices = 8\n" + INNER + OUTER,
        r"domain_devices and \[\[tiers\]\] both describe",
    ),
    "an unknown fabric": (HEAD + 'fabric = "mrx"', "unknown fabric 'mrx'; did you mean 'mrc'"),
    "a fabric too small": (
        HEAD.replace("64", "65536") + 'fabric = "meta-24k-roce"',
        "fabric 'meta-24k-roce' joins at most 24576 devices, a site has 65536",
    ),
    "a network nobody published": (
        HEAD.replace("H100", "MI455X").replace("64", "720"),
        "bandwidth of MI455X is not published",
    ),
    "sites that do not add up": (
        HEAD + SITES.replace("16", "8") + BETWEEN,
        "sites hold 56 devices together, but devices = 64",
    ),
    "sites that split hosts": (
        HEAD + "node_devices = 8\n" + SITES.replace("48", "50").replace("16", "14") + BETWEEN,
        "node_devices = 8: 50 devices are not a whole number of hosts",
    ),
    "sites nothing joins": (HEAD + SITES, r"several sites: say what joins them in \[between_sites\]"),
    "sites joined by zero": (
        HEAD + SITES + BETWEEN.replace("1.5", "0"),
        "between_sites.bandwidth_gb_per_s = 0: .* greater",
    ),
    "one site joined": (HEAD + BETWEEN, r"\[between_sites\] joins sites, but there is one"),
    "two sites of one name": (HEAD + SITES.replace('"b"', '"a"') + BETWEEN, "sites: two are named 'a'"),
    "a device without a peak": (without("accelerator") + OWN, "device: give the peak of at least one precision"),
    "a share of no peak": (
        without("accelerator") + OWN + "bf16_tflops = 1\nachieved_fp8_percent = 50",
        "device.achieved_fp8_percent: a share of which peak",
    ),
    "more than the peak": (
        without("accelerator") + OWN + "bf16_tflops = 1\nachieved_bf16_percent = 101",
        "device.achieved_bf16_percent = 101: .* less than or equal to 100",
    ),
    "power from nowhere": (HEAD + "power_usage_effectiveness = 0.9", "power_usage_effectiveness = 0.9: .* equal to 1"),
    "a negative price": (
        HEAD + "price_dollars_per_device_hour = -1",
        "price_dollars_per_device_hour = -1: .* equal to 0",
    ),
    "no TOML": (HEAD + "x = ", "not valid TOML"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    text, line = BAD[what]
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        load_cluster(path)
    message = str(refused.value)
    assert re.fullmatch(rf"{re.escape(str(path))}: .*{line}.*", message), message


@given(st.text(max_size=200))
def test_any_text_is_a_cluster_or_bad_input(text: str) -> None:
    with pytest.raises(InputError, match=r"\Acluster.toml: "):
        parse_cluster(text, "cluster.toml")  # no text this short and random has the keys that are required


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; examples of clusters: four-sites, "):
        load_cluster(tmp_path / "no.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"bytes.toml: cannot be read"):
        load_cluster(tmp_path / "bytes.toml")
    with pytest.raises(InputError, match=r"gone/cluster.toml: cannot be written"):
        write_cluster(default_cluster("H100", 8), tmp_path / "gone" / "cluster.toml")
    with pytest.raises(InputError, match="no example cluster 'x'; there are four-sites, "):
        example_cluster("x")


def test_what_is_written_explains_every_key() -> None:
    text = render_cluster(example_cluster("four-sites"))
    assert tomllib.loads(text)["between_sites"] == {"bandwidth_gb_per_s": 12.5, "latency_ms": 10.0}
    for section in (ClusterSection, TierSection, SiteSection, BetweenSitesSection):
        assert (section.__doc__ or "").splitlines()[0] in text or section is ClusterSection
    keys = re.findall(r"^(\w+) = ", text.split("[[tiers]]\n")[0], re.MULTILINE)
    assert all(
        f"\n{key} = " in text and (ClusterSection.model_fields[key].description or "")[:30] in text for key in keys
    )


def test_the_page_shows_what_is_shipped() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == rewritten(page, tables()), (
        "docs/hardware.md is out of date; run python -m tests.planner.hardware.page"
    )
    assert all(table in page for table in tables().values())
