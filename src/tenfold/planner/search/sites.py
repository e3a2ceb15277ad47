"""Several sites, joined by a line that is thin beside what joins the devices of one.

In step, gradients are summed over the sites at every step. Semi-synchronously, each site trains on its own for some
inner steps, and what it has moved is exchanged fragment by fragment, in few bits, while training goes on: Streaming
DiLoCo (arXiv 2501.18512) and Decoupled DiLoCo (arXiv 2604.21428); terms as in docs/learners.md.
"""

from dataclasses import dataclass

import numpy as np

from tenfold.core import InputError
from tenfold.planner.calibration.calibrated import Calibrated
from tenfold.planner.cost.device import Constants
from tenfold.planner.hardware.cluster import Wide
from tenfold.planner.search.question import LayoutQuestion, constants_of

INNER_STEPS = (1, 2, 5, 10, 20, 30, 50, 100, 200, 500, 1000)
BITS = (32, 16, 8, 4)
"""Of one element of a pseudo-gradient. At 4 Streaming DiLoCo found no loss of quality (arXiv 2501.18512)."""
MOST_OVERLAP = 5
"""Inner steps that an exchange may take where it is chosen: later merges cost quality (arXiv 2501.18512)."""
FRAGMENT_LAYERS = 3
"""Layers of one fragment, as in arXiv 2501.18512."""
HIDDEN = 0.01
"""Share of a step that may be lost to waiting where an exchange is chosen."""
LINE_SPREAD = 0.4
"""Standard deviation, in logarithms, of the wait for a line that no calibrated run had: a new site's network gives more
or less by 0.3 (`calibration.priors`), and of the sum over the sites three quarters to all (0.29) may be waited for."""


@dataclass(frozen=True)
class Exchange:
    """How sites exchange what they have trained."""

    inner_steps: int
    """Steps between two exchanges of the same fragment (H)."""
    fragments: int
    bits: int
    overlap: int
    """Inner steps that pass while a fragment is under way; 0: all wait for it."""


@dataclass(frozen=True)
class Joined:
    """Several sites under one exchange, beside the same sites in step. Bytes are those that one site sends."""

    exchange: Exchange
    bytes_per_round: float
    """In `inner_steps` steps; as much comes in."""
    fragment_seconds: float
    """That one fragment is under way."""
    exposed: float
    """Seconds of waiting for each inner step; 0 when all is hidden."""
    inner_seconds: float
    """One step of a site alone."""
    needed_bandwidth: float
    """Bytes/s of a site at which nothing would wait; infinite where latency alone takes longer than the overlap."""
    synchronous_exposed: float
    """Seconds that plain data parallelism across the sites waits at each step."""
    synchronous_bytes: float
    """That it sends in `inner_steps` steps."""

    @property
    def seconds(self) -> float:
        """Seconds of one inner step, waiting included."""
        return self.inner_seconds + self.exposed

    @property
    def speedup(self) -> float:
        """Over plain data parallelism across the sites. Says nothing of how much a token teaches."""
        return (self.inner_seconds + self.synchronous_exposed) / self.seconds


def synchronous_seconds(question: LayoutQuestion, constants: Constants) -> float:
    """Waiting of one step for gradients summed over the sites (plain data parallelism), in seconds; 0 with one site.

    As much of it is hidden as of any reduction of gradients.
    """
    if question.sites == 1:
        return 0.0
    moved = exchanged_bytes(question, question.gradient_bytes)
    share = float(np.minimum(constants.data_exposed, 1.0))
    return share * _under_way(question, moved, constants)


def join_sites(question: LayoutQuestion, inner_seconds: float, calibrated: Calibrated, exchange: Exchange) -> Joined:
    """Cost of an exchange when a site alone needs `inner_seconds` for its part of a step.

    `Choice.seconds` of a cluster of several sites includes the waiting of plain data parallelism; `alone` takes it out.
    Raises InputError for one site, or for an exchange that cannot be.
    """
    _check(question, exchange)
    constants = constants_of(question, calibrated)
    moved = exchanged_bytes(question, exchange.bits / 8)
    fragment = moved / exchange.fragments
    under_way = _under_way(question, fragment, constants)
    window = exchange.overlap * inner_seconds
    left = window - 2 * _wide(question).latency
    reached = wide_bandwidth(question, constants) / _wide(question).bandwidth
    return Joined(
        exchange=exchange,
        bytes_per_round=moved,
        fragment_seconds=under_way,
        exposed=max(under_way - window, 0.0) * exchange.fragments / exchange.inner_steps,
        inner_seconds=inner_seconds,
        needed_bandwidth=fragment / left / reached if left > 0 else np.inf,
        synchronous_exposed=synchronous_seconds(question, constants),
        synchronous_bytes=exchanged_bytes(question, question.gradient_bytes) * exchange.inner_steps,
    )


def choose_exchange(question: LayoutQuestion, inner_seconds: float, calibrated: Calibrated) -> Joined:
    """The fewest inner steps, then the most bits, at which at most HIDDEN of a step is lost to waiting.

    Raises InputError where even the most inner steps in the fewest bits leave more.
    """
    for inner in INNER_STEPS:
        for bits in BITS:
            tried = join_sites(question, inner_seconds, calibrated, _usual(question, inner, bits))
            if tried.exposed <= HIDDEN * inner_seconds:
                return tried
    raise InputError(
        f"{question.cluster.name}: {_wide(question).bandwidth / 1e9:g} GB/s between sites leave "
        f"{tried.exposed / inner_seconds:.0%} of each step waiting even with {INNER_STEPS[-1]} inner steps and "
        f"{BITS[-1]} bits; needs {tried.needed_bandwidth / 1e9:.3g} GB/s"
    )


def _usual(question: LayoutQuestion, inner: int, bits: int) -> Exchange:
    """Fragments of a few layers, each under way until the next one starts, but not too long."""
    fragments = max(1, min(inner, round(float(question.shape.layers) / FRAGMENT_LAYERS)))
    return Exchange(inner, fragments, bits, min(MOST_OVERLAP, inner // fragments))


def exchanged_bytes(question: LayoutQuestion, element_bytes: float) -> float:
    """Bytes that one site sends for all parameters once: 2 (n − 1) / n of them, half to where they are merged and half
    what it has merged. A ring and syncers spread over the sites are alike in this."""
    return 2 * float(question.shape.parameters) * element_bytes * (1 - 1 / question.sites)


def wide_bandwidth(question: LayoutQuestion, constants: Constants) -> float:
    """Bytes/s of one site that reach the others: as much of the line as collectives reach of a network, at most all.

    Raises InputError for one site, or where nothing joins them.
    """
    return _wide(question).bandwidth * float(np.minimum(constants.network_efficiency, 1.0))


def _under_way(question: LayoutQuestion, moved: float, constants: Constants) -> float:
    """Seconds there and back again."""
    return moved / wide_bandwidth(question, constants) + 2 * _wide(question).latency


def _wide(question: LayoutQuestion) -> Wide:
    wide = question.cluster.wide
    if question.sites == 1 or wide is None:
        raise InputError(f"{question.cluster.name} is one site; an exchange is between several")
    if wide.bandwidth <= 0:
        raise InputError(f"{question.cluster.name}: no bandwidth between the sites")
    return wide


def _check(question: LayoutQuestion, exchange: Exchange) -> None:
    _wide(question)
    if not 1 <= exchange.fragments <= exchange.inner_steps:
        raise InputError(
            f"{exchange.fragments} fragments in {exchange.inner_steps} inner steps: 1 to {exchange.inner_steps}"
        )
    if not 1 <= exchange.bits <= 32:
        raise InputError(f"{exchange.bits} bits of an element: 1 to 32")
    most = exchange.inner_steps // exchange.fragments
    if not 0 <= exchange.overlap <= most:
        raise InputError(f"an overlap of {exchange.overlap} steps: 0 to {most}, until the next fragment starts")
