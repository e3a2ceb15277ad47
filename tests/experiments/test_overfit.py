"""A rung that does worse for being longer is no ground for a forecast."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.experiments.overfit import overfitted, refuse_overfitted
from tenfold.experiments.tasks import RungResult

CORPUS = 1000


def rung(size: str, tokens: int, iid: float, far: float = 3.0) -> RungResult:
    rest = {"parameters": 1, "compute": 1.0, "budget": 1.0, "steps": 1, "batch_tokens": 1, "learning_rate": 1.0}
    names = {"fingerprint": "", "trunk_fingerprint": "", "weights_digest": "", "seconds": 0.0, "trunk_seconds": 0.0}
    return RungResult(
        size=size, seed=1, rate_factor=1.0, tokens=tokens, holdouts={"iid": iid, "far": far}, **rest, **names
    )


@given(st.lists(st.floats(1.0, 5.0), min_size=1, max_size=6, unique=True))
def test_runs_that_still_learn_are_never_found(losses: list[float]) -> None:
    falling = [rung("w16", 2000 * (n + 1), loss) for n, loss in enumerate(sorted(losses, reverse=True))]
    assert overfitted(falling, "iid", CORPUS) == []
    refuse_overfitted(falling, "iid", CORPUS, 100_000)


def test_the_shortest_that_rose_is_named_with_what_it_rose_from() -> None:
    rungs = [rung("w16", 2000, 3.0), rung("w16", 8000, 2.9), rung("w32", 8000, 3.1), rung("w32", 2000, 2.8)]
    rungs += [rung("w16", 16_000, 3.2), rung("w16", 32_000, 3.5)]
    found = {each.longer.size: (each.longer.tokens, each.shorter.tokens) for each in overfitted(rungs, "iid", CORPUS)}
    assert found == {"w16": (16_000, 8000), "w32": (8000, 2000)}
    with pytest.raises(InputError, match=r"w32 overfits on iid: 3.100 bits per byte after 8.0 epochs, 2.800 after 2.0"):
        refuse_overfitted(rungs, "iid", CORPUS, 250_000)
    refuse_overfitted(rungs, "far", CORPUS, 250_000)


def test_noise_and_text_that_was_never_repeated_are_no_overfitting() -> None:
    assert overfitted([rung("w16", 2000, 3.0), rung("w16", 4000, 3.005)], "iid", CORPUS) == []
    assert overfitted([rung("w16", 500, 3.0), rung("w16", 900, 3.2)], "iid", CORPUS) == []
