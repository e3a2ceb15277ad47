"""The run table: what is read, what is refused and in which words."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.scaling.predict import fit_scaling_law
from tenfold.scaling.table import read_runs

# Seven digits: the table keeps logarithms, and of two numbers that differ in the last bit the order may turn around.
AMOUNTS = st.floats(1e3, 1e13).map(lambda amount: float(f"{amount:.6e}"))
LOSSES = st.floats(0.01, 12.0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "runs.csv"


@given(rows=st.lists(st.tuples(AMOUNTS, AMOUNTS, LOSSES), min_size=1, max_size=20, unique=True), order=st.randoms())
def test_numbers_come_back_and_row_order_does_not_matter(rows, order, path: Path) -> None:
    path.write_text("N,D,loss\n" + "".join(f"{n!r},{d!r},{loss!r}\n" for n, d, loss in rows))
    table = read_runs(path)
    expected = sorted(rows)
    read = sorted(zip(np.exp(table.points.n), np.exp(table.points.d), table.loss, strict=True))
    assert np.allclose(read, expected, rtol=1e-12)
    order.shuffle(rows)
    path.write_text("loss, N ,extra,D\n" + "".join(f"{loss!r},{n!r},x,{d!r}\n" for n, d, loss in rows))
    again = read_runs(path)
    assert all(np.array_equal(getattr(again.points, f), getattr(table.points, f)) for f in "ndcu")
    assert np.array_equal(again.log_loss, table.log_loss) and np.array_equal(again.run, table.run)


@given(text=st.text(max_size=200))
def test_any_text_is_a_table_or_one_clear_line(text: str, path: Path) -> None:
    path.write_text("N,D,loss\n" + text, encoding="utf-8", newline="", errors="replace")
    try:
        assert len(read_runs(path)) > 0
    except InputError as error:
        assert str(error).startswith(f"{path}: ")


def test_compute_defaults_to_6nd_and_unique_tokens_to_all(path: Path) -> None:
    path.write_text("N,D,loss\n1e6,2e7,4.0\n")
    points = read_runs(path).points
    assert np.exp(points.c[0]) == pytest.approx(6 * 1e6 * 2e7)
    assert points.u[0] == points.d[0] and not points.repeats


def test_epochs_give_unique_tokens(path: Path) -> None:
    path.write_text("N,D,loss,epochs\n1e6,2e7,4.0,4\n1e6,2e7,4.1,0.5\n")
    points = read_runs(path).points
    assert sorted(np.exp(points.u)) == pytest.approx([5e6, 2e7])
    assert points.repeats


def test_rows_of_one_run_belong_together_and_a_seed_makes_another_run(path: Path) -> None:
    path.write_text("N,D,loss,run,seed\n1e6,1e7,5,a,0\n1e6,2e7,4,a,0\n1e6,3e7,3,a,1\n1e6,4e7,2,,0\n1e6,5e7,1,,0\n")
    assert read_runs(path).run.tolist() == [0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'N'; columns there are: none (empty file)"),
        ("n,D,loss\n1,2,3\n", "no column 'N'; columns there are: n, D, loss"),
        ("N,D,loss\n", "no rows below the header"),
        ("N,D,loss\n1e6,1e7,4\n1e6,abc,4\n", "row 3: D = 'abc': must be a finite number above 0"),
        ("N,D,loss\n1e6,1e7\n", "row 2: loss = '': must be a finite number above 0"),
        ("N,D,loss\n1e6,1e7,nan\n", "row 2: loss = 'nan': must be a finite number above 0"),
        ("N,D,loss\n-1e6,1e7,4\n", "row 2: N = '-1e6': must be a finite number above 0"),
        ("N,D,loss,C\n1e6,1e7,4,inf\n", "row 2: C = 'inf': must be a finite number above 0"),
        ("N,D,loss,N\n1e6,1e7,4,1\n", "column 'N' is there 2 times; keep one"),
        ("N,D,loss,unique\n1e6,1e7,4,2e7\n", "row 2: unique = '2e7': must not exceed D = 1e7"),
        ('N,D,loss\n1e6,1e7,"4\n', "not a CSV in UTF-8"),
    ],
)
def test_bad_input_names_file_row_column_and_what_is_allowed(content: str, message: str, path: Path) -> None:
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_runs(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_not_text_and_not_there(path: Path) -> None:
    path.write_bytes(b"N,D,loss\n\xff\xfe,1,2\n")
    with pytest.raises(InputError, match="not a CSV in UTF-8"):
        read_runs(path)
    with pytest.raises(InputError, match=r"gone\.csv: no such file; --table takes a CSV"):
        read_runs(path.parent / "gone.csv")


def test_a_row_that_stands_twice_counts_once_and_is_said(tmp_path: Path) -> None:
    rows = [f"{n:g},{20 * n:g},{2 + (1e8 / n) ** 0.3:.5f}" for n in (1e7, 2e7, 4e7, 8e7, 1.6e8, 3.2e8)]
    once, twice = tmp_path / "once.csv", tmp_path / "twice.csv"
    once.write_text("\n".join(["N,D,loss", *rows]), encoding="utf-8")
    twice.write_text("\n".join(["N,D,loss", *rows, rows[1], rows[3]]), encoding="utf-8")
    assert read_runs(once).copies == () and read_runs(twice).copies == (8, 9)
    plain, copied = (fit_scaling_law(read_runs(path)) for path in (once, twice))
    target = plain.points(1e9, 2e10)
    assert copied.log_loss(target)[0] == plain.log_loss(target)[0]
    assert "rows 8, 9 repeat another word for word: counted once" in copied.forecast(target)[0].notes
