"""What is scored while training goes on, and what is noticed in it."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.campaign import run_campaign, run_evaluate, run_export
from tenfold.core.errors import InputError
from tenfold.data import HoldoutDocument
from tenfold.evaluate import limit_documents
from tenfold.ledger import Ledger, holdout_metric
from tests.campaign.small import new_campaign
from tests.data.texts import library_texts, write_texts

LENGTHS = np.asarray([0, 1, 2, 3, 7])
OVERFITTING = ("train.tokens=81920", "train.optimizer.weight_decay=0", "evaluate.every=20", "checkpoint.every=100")
OVERFITTING += ("checkpoint.keep_best=iid", "checkpoint.keep_last=1")


def document(tokens: list[int]) -> HoldoutDocument:
    return HoldoutDocument(b"x" * int(LENGTHS[tokens].sum()), np.asarray(tokens))


documents_of_any_size = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=200).map(document), min_size=1)


@given(documents=documents_of_any_size, limit=st.integers(1, 500))
def test_what_is_scored_fits_the_limit_and_fills_half_of_it(documents: list[HoldoutDocument], limit: int) -> None:
    chosen = limit_documents(documents, limit, LENGTHS)
    size = sum(len(each.text) for each in chosen)
    assert size <= limit or len(chosen[-1].tokens) == 1, "a token is not cut"
    assert size >= min(limit / 2 - 7, sum(len(each.text) for each in documents))
    for each in chosen:
        assert len(each.text) == LENGTHS[each.tokens].sum(), "bytes scored are those of the tokens scored"


def test_one_large_document_is_cut_and_small_ones_are_kept_whole() -> None:
    large, small = document([3] * 1000), document([1, 2])
    assert [len(each.text) for each in limit_documents([large], 100, LENGTHS)] == [99]
    assert [len(each.text) for each in limit_documents([small, large], 100, LENGTHS)] == [3, 96]
    assert limit_documents([small, small], 100, LENGTHS) == [small, small]


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few texts, seen so often that they are learned by heart."""
    directory = new_campaign(tmp_path_factory.mktemp("overfitted"), texts=1)
    for path in (directory / "texts").iterdir():
        path.unlink()
    write_texts(directory / "texts", library_texts(2, max_bytes=6000))
    run_campaign(directory, OVERFITTING)
    return directory


def test_a_holdout_that_turns_upward_is_an_event(overfitted: Path) -> None:
    with closing(Ledger(overfitted / "ledger.sqlite", read_only=True)) as ledger:
        (turned,) = [event for event in ledger.events() if event.kind == "holdout-turned"]
        scores = dict(ledger.metric(1, holdout_metric("iid")))
    assert turned.data["bits_per_byte"] > 1.01 * turned.data["lowest"]
    assert turned.data["lowest"] == min(value for step, value in scores.items() if step <= turned.data["step"])
    assert "turned upward" in turned.message and "epochs" in turned.message


def test_the_best_checkpoint_is_kept_scored_and_exported(overfitted: Path) -> None:
    best = json.loads((overfitted / "train.json").read_text())["best"]
    kept = sorted(int(path.name[5:]) for path in (overfitted / "checkpoints").iterdir())
    assert kept == [best["step"], 320] and best["step"] < 320
    final, of_best = run_evaluate(overfitted, ()), run_evaluate(overfitted, (), best=True)
    assert of_best["iid_bits_per_byte"] < final["iid_bits_per_byte"] / 1.01
    run_export(overfitted, overfitted / "of-best", (), best=True)
    run_export(overfitted, overfitted / "of-last", ())
    weights = [(overfitted / name / "model.safetensors").read_bytes() for name in ("of-best", "of-last")]
    assert weights[0] != weights[1]
    (overfitted / "checkpoints" / f"step-{best['step']:08d}").rename(overfitted / "aside")
    with pytest.raises(InputError, match=r"the best checkpoint, step \d+, is missing"):
        run_export(overfitted, overfitted / "again", (), best=True)
