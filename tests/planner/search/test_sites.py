"""Several sites and the thin line between them."""

import json
import math
from dataclasses import replace

import pytest

from tenfold.core.errors import InputError
from tenfold.planner.calibration.calibrated import shipped_calibration
from tenfold.planner.codesign.known import known_model
from tenfold.planner.hardware.cluster import Site, Tier, Wide, default_cluster
from tenfold.planner.notes import idle_notes, site_notes
from tenfold.planner.search.layouts import Choice, alone_seconds, search_layouts
from tenfold.planner.search.many_sites import compare_sites
from tenfold.planner.search.question import LayoutQuestion, constants_of
from tenfold.planner.search.sites import Exchange, choose_exchange, join_sites, wide_bandwidth
from tenfold.planner.search.usable import search_usable
from tests.planner.search.examples import DENSE, dense, two_sites

QUESTION = two_sites(dense(), bandwidth=1e9, latency=0.05)
CONSTANTS = constants_of(QUESTION, shipped_calibration())
REACHED = wide_bandwidth(QUESTION, CONSTANTS)
PARAMETERS = float(DENSE.parameters)


def test_bytes_of_a_round_by_hand() -> None:
    """Two sites: each sends half of the pseudo-gradients to the other, and half of what it merged."""
    joined = join_sites(QUESTION, 1.0, shipped_calibration(), Exchange(100, 8, 4, 2))
    assert joined.bytes_per_round == pytest.approx(PARAMETERS * 0.5)
    assert joined.synchronous_bytes == pytest.approx(100 * PARAMETERS * 4)
    assert joined.fragment_seconds == pytest.approx(PARAMETERS * 0.5 / 8 / REACHED + 0.1)


def test_nothing_waits_for_what_is_hidden() -> None:
    hidden = join_sites(QUESTION, 1.0, shipped_calibration(), Exchange(100, 8, 4, 2))
    assert hidden.fragment_seconds < 2.0
    assert hidden.exposed == 0
    assert hidden.seconds == 1.0
    assert hidden.speedup == pytest.approx(1 + hidden.synchronous_exposed)


def test_without_overlap_all_of_it_is_waited_for() -> None:
    waiting = join_sites(QUESTION, 1.0, shipped_calibration(), Exchange(100, 8, 4, 0))
    assert waiting.exposed == pytest.approx(waiting.fragment_seconds * 8 / 100)
    assert waiting.needed_bandwidth == float("inf")


def test_what_is_needed_is_just_enough() -> None:
    exchange = Exchange(20, 4, 16, 1)
    needed = join_sites(QUESTION, 0.5, shipped_calibration(), exchange).needed_bandwidth
    for factor, waits in ((1.001, False), (0.98, True)):
        cluster = replace(QUESTION.cluster, wide=replace(QUESTION.cluster.wide, bandwidth=needed * factor))
        assert (
            join_sites(replace(QUESTION, cluster=cluster), 0.5, shipped_calibration(), exchange).exposed > 0
        ) == waits


def test_fewer_bits_and_more_steps_wait_less() -> None:
    bits = [
        join_sites(QUESTION, 0.01, shipped_calibration(), Exchange(8, 4, each, 1)).exposed for each in (32, 16, 8, 4)
    ]
    steps = [join_sites(QUESTION, 0.01, shipped_calibration(), Exchange(each, 4, 4, 1)).exposed for each in (8, 16, 32)]
    assert bits == sorted(bits, reverse=True) and bits[0] > bits[-1] > 0
    assert steps == sorted(steps, reverse=True) and steps[0] > steps[-1]


def test_the_chosen_exchange_hides_and_the_next_larger_would_not() -> None:
    chosen = choose_exchange(QUESTION, 0.1, shipped_calibration())
    assert chosen.exposed <= 0.01 * 0.1
    assert chosen.exchange.inner_steps > 1
    fatter = replace(chosen.exchange, bits=chosen.exchange.bits * 2)
    assert join_sites(QUESTION, 0.1, shipped_calibration(), fatter).exposed > 0.01 * 0.1


def test_a_site_alone_waits_for_no_other() -> None:
    inside = search_layouts(dense(), shipped_calibration()).best[0]
    across = search_layouts(QUESTION, shipped_calibration()).best[0]
    site = alone_seconds(across, QUESTION, shipped_calibration())
    assert site == pytest.approx(inside.seconds, rel=0.05)
    joined = join_sites(QUESTION, site, shipped_calibration(), Exchange(50, 8, 4, 2))
    assert joined.inner_seconds + joined.synchronous_exposed == pytest.approx(across.seconds)
    assert joined.speedup > 2


@pytest.mark.parametrize(
    ("exchange", "said"),
    [
        (Exchange(10, 11, 4, 1), "11 fragments in 10 inner steps"),
        (Exchange(10, 0, 4, 1), "0 fragments"),
        (Exchange(10, 5, 64, 1), "64 bits of an element: 1 to 32"),
        (Exchange(10, 5, 4, 3), "an overlap of 3 steps: 0 to 2"),
    ],
)
def test_exchanges_that_cannot_be(exchange: Exchange, said: str) -> None:
    with pytest.raises(InputError, match=said):
        join_sites(QUESTION, 1.0, shipped_calibration(), exchange)


def test_one_site_has_nobody_to_exchange_with() -> None:
    with pytest.raises(InputError, match="is one site"):
        join_sites(dense(), 1.0, shipped_calibration(), Exchange(10, 5, 4, 1))


def test_a_line_too_thin_says_what_is_needed() -> None:
    with pytest.raises(InputError, match=r"needs \S+ GB/s"):
        choose_exchange(two_sites(dense(), bandwidth=1e3), 0.1, shipped_calibration())


def network_bound(model: str, bandwidth: float = 0.0, oversubscription: float = 1.0) -> LayoutQuestion:
    """1,024 H100 in one place, or in two that are 50 ms apart and joined by so many bytes/s."""
    cluster = default_cluster("H100-SXM", 1024)
    each = 512 if bandwidth else 1024
    tiers = (Tier("NVLink", 8, 450e9, 1.0, 3e-6), Tier("spine", each, 50e9, oversubscription, 1e-5))
    if bandwidth:
        cluster = replace(cluster, sites=(Site("a", 512), Site("b", 512)), wide=Wide(bandwidth, 0.05))
    return LayoutQuestion(known_model(model).shape, replace(cluster, tiers=tiers), 512)


def first(question: LayoutQuestion) -> Choice:
    return search_layouts(question, shipped_calibration(), top=1).best[0]


def width(question: LayoutQuestion) -> float:
    choice = first(question)
    return math.log(choice.high / choice.seconds)


@pytest.mark.parametrize("model", ["Llama-3-8B", "Llama-3-405B"])
def test_a_question_bound_by_a_network_is_less_sure_than_the_same_in_one_place(model: str) -> None:
    plain = width(network_bound(model))
    assert width(network_bound(model, oversubscription=16)) > plain
    fast, slow = width(network_bound(model, 100e9)), width(network_bound(model, 12.5e9))
    assert plain < fast < slow and slow > 1.5 * plain


def test_several_sites_are_compared_with_one_of_them_alone_and_with_semi_synchronous_training() -> None:
    question = network_bound("Llama-3-8B", 12.5e9)
    choice = first(question)
    sites = compare_sites(choice, question, shipped_calibration(), question.cluster)
    assert sites is not None and sites.apart is not None and sites.one_alone is not None
    assert sites.apart.seconds < sites.one_alone < sites.in_step == choice.seconds
    assert sites.low < sites.apart.seconds < sites.high
    assert math.log(sites.high / sites.low) < math.log(choice.high / choice.low)
    json.dumps(sites.to_dict(), allow_nan=False)
    notes = "\n".join(site_notes(sites))
    assert "faster than all in step" in notes and "semi-synchronous, with inner_steps" in notes
    one = network_bound("Llama-3-8B")
    assert compare_sites(first(one), one, shipped_calibration(), one.cluster) is None


def test_a_line_on_which_no_exchange_hides_is_an_answer_too() -> None:
    question = network_bound("Llama-3-8B", 1e6)
    sites = compare_sites(first(question), question, shipped_calibration(), question.cluster)
    assert sites is not None and sites.apart is None and "even with 1000 inner steps" in sites.refusal
    assert sites.refusal in site_notes(sites) and sites.to_dict()["apart"] is None


def test_of_uneven_sites_the_largest_is_asked_alone() -> None:
    even = network_bound("Llama-3-8B", 12.5e9)
    tiers = (even.cluster.tiers[0], replace(even.cluster.tiers[1], devices=768))
    machine = replace(even.cluster, tiers=tiers, sites=(Site("a", 768), Site("b", 256)))
    question, found = search_usable(replace(even, cluster=machine), shipped_calibration(), top=1)
    assert question.cluster.devices == 512 and question.cluster.idle == 512
    uneven = compare_sites(found.best[0], question, shipped_calibration(), machine)
    halved = compare_sites(found.best[0], question, shipped_calibration(), question.cluster)
    assert uneven is not None and uneven.one_alone is not None
    assert halved is not None and halved.one_alone is not None and uneven.one_alone < halved.one_alone
    assert "as many at each site" in idle_notes(question.cluster)[0]
