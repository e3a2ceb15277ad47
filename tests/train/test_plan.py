"""A run's numbers, from the campaign alone."""

import pytest
import torch

from tenfold.config import Campaign
from tenfold.core.errors import InputError
from tenfold.train.plan import GPU_MICRO_BATCH, TOKENS_PER_PARAMETER, RunPlan, plan_run
from tenfold.train.ranks import Ranks
from tests.train.small import ALONE

GPU = Ranks(0, 1, torch.device("cuda"))


def planned(ranks: Ranks = ALONE, **train: object) -> RunPlan:
    values = {
        "name": "one",
        "data": {"sources": [{"kind": "files", "paths": ["texts"]}]},
        "model": {"depth": 2, "width": 64, "head_dim": 16, "context": 32},
        "train": {"batch_tokens": 2048, "precision": "float32", "threads": 1, "compile": "off", **train},
    }
    return plan_run(Campaign.model_validate(values), 512, ranks)


def test_a_budget_is_cut_to_whole_steps() -> None:
    plan = planned(tokens=2048 * 7 + 2047)
    assert (plan.steps, plan.sequences, plan.tokens_per_step) == (7, 64, 2048)
    with pytest.raises(InputError, match=r"train.tokens = 2047: less than one step of train.batch_tokens = 2048"):
        planned(tokens=2047)


def test_without_a_budget_it_is_twenty_tokens_a_parameter() -> None:
    plan = planned()
    assert plan.steps == TOKENS_PER_PARAMETER * plan.parameters // 2048


def test_micro_batches_fit_the_ranks_share_and_the_device() -> None:
    assert planned().micro_batch == 64
    assert planned(Ranks(0, 4, torch.device("cpu"))).micro_batch == 16
    assert planned(Ranks(0, 4, torch.device("cpu")), micro_batch=24).micro_batch == 16
    assert planned(micro_batch=24).micro_batch == 24
    assert planned(GPU).micro_batch == GPU_MICRO_BATCH
    with pytest.raises(InputError, match="cannot be shared by 5 ranks equally"):
        planned(Ranks(0, 5, torch.device("cpu")))


def test_compiling_is_decided_by_work_and_never_by_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenfold.train.plan.has_cpp_compiler", lambda: True)
    assert not planned(compile="auto", tokens=2048).compiled
    assert planned(compile="auto", tokens=10**9).compiled and planned(compile="on").compiled
    monkeypatch.setattr("tenfold.train.plan.has_cpp_compiler", lambda: False)
    assert not planned(compile="auto", tokens=10**9).compiled
    with pytest.raises(InputError, match=r'train.compile = "on": no working C\+\+ compiler here'):
        planned(compile="on")
    assert planned(GPU, compile="on").compiled


def test_ranks_of_one_machine_share_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenfold.train.plan.usable_cores", lambda: 8)
    assert planned(threads=None).threads == 8
    assert planned(Ranks(0, 4, torch.device("cpu"), local_world_size=4), threads=None).threads == 2
