"""Loss and batch: against figures worked out by hand, and what must always hold."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.planner.codesign.loss import LadderLaw, PublishedLaw, critical_batch, law_of, tokens_needed, tokens_worth

LAW = PublishedLaw()
NONE = np.array(np.inf)
sizes = st.floats(1e7, 1e13)


def loss(parameters: float, tokens: float, unique: float = math.inf) -> float:
    return math.exp(float(LAW.log_loss(np.array(parameters), np.array(tokens), np.array(unique))))


def test_published_law_is_the_published_formula() -> None:
    by_hand = 1.8172 + 482.01 / 70e9**0.3478 + 2085.43 / 1.4e12**0.3658  # Chinchilla
    assert loss(70e9, 1.4e12) == pytest.approx(by_hand, rel=1e-9)


def test_four_epochs_are_nearly_as_good_as_new_data_and_forty_are_not() -> None:
    """Muennighoff et al., abstract and figure 1: up to 4 epochs cost little, and after 16 little is gained."""
    fresh, once = loss(1e9, 80e9), loss(1e9, 20e9)
    assert (loss(1e9, 80e9, 20e9) - fresh) / (once - fresh) < 0.15
    assert loss(1e9, 20e9 * 40, 20e9) - loss(1e9, 20e9 * 400, 20e9) < 0.02


@given(sizes, sizes, st.floats(1.0, 100.0))
def test_repeating_is_never_better_than_new_data_nor_worse_than_none(n: float, d: float, epochs: float) -> None:
    assert loss(n, d) <= loss(n, d, d) * (1 + 1e-9) <= loss(n, d, d / epochs) * (1 + 2e-9)
    assert loss(n, d, d / epochs) <= loss(n, d / epochs, d / epochs) * (1 + 1e-9)
    assert loss(n, d, d / 1.001) == pytest.approx(loss(n, d, d), rel=1e-3)


@given(sizes, sizes)
def test_more_of_either_lowers_the_loss_and_the_interval_holds_it(n: float, d: float) -> None:
    assert loss(2 * n, d) < loss(n, d) and loss(n, 2 * d) < loss(n, d)
    width = float(LAW.half_width(np.array(n), np.array(d), NONE))
    assert 0 < width < 2


def test_interval_of_the_floor_alone_is_that_of_e() -> None:
    assert float(LAW.half_width(np.array(1e30), np.array(1e30), NONE)) == pytest.approx(
        1.645 * 0.026 / 1.8172, rel=0.01
    )


def test_the_law_says_where_it_was_not_fitted() -> None:
    assert LAW.notes(8e9, 200e9) == []
    assert "16 B parameters" in LAW.notes(70e9, 200e9)[0]


def test_a_ladder_of_ones_own_replaces_the_published_law(tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    n, d = (each.ravel() for each in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
    rows = [f"{a},{b},{1.2 + 300 / a**0.34 + 900 / b**0.36}" for a, b in zip(n, d, strict=True)]
    table.write_text("\n".join(["N,D,loss", *rows]) + "\n", encoding="utf-8")
    law = law_of(str(table))
    assert isinstance(law, LadderLaw) and "25 runs" in law.source
    told = float(law.log_loss(np.array(3e9), np.array(2e11), NONE))
    assert math.exp(told) == pytest.approx(1.2 + 300 / 3e9**0.34 + 900 / 2e11**0.36, rel=0.01)
    assert float(law.half_width(np.array(3e9), np.array(2e11), NONE)) > 0
    assert law.log_loss(np.array([1e9, 3e9]), np.array([2e11, 2e11]), np.array([np.inf, 1e11])).shape == (2,)
    assert "decades beyond" in "".join(law.notes(1e13, 1e15))


def test_a_missing_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        law_of(str(tmp_path / "none.csv"))


def test_critical_batch_is_what_was_measured() -> None:
    """Zhang et al.: 302 M parameters at 20 tokens for each can take about a thousand sequences of 512 at 20% more."""
    twenty_percent = critical_batch(3.07e9 * 2) * 0.2 / 512
    assert 1000 < twenty_percent < 2000
    assert tokens_needed(1e9, critical_batch(1e9) * 0.2) == pytest.approx(1.2e9)
    assert critical_batch(1e12, 4e6) == 4e6


@given(st.floats(1e8, 1e14), st.floats(1e3, 1e9), st.one_of(st.none(), st.floats(1e4, 1e9)))
def test_worth_undoes_need(tokens: float, batch: float, measured: float | None) -> None:
    needed = tokens_needed(tokens, batch, measured)
    assert needed > tokens
    assert tokens_worth(needed, batch, measured) == pytest.approx(tokens, rel=1e-6)
