"""A plain PyTorch loop and Hugging Face Trainer, watched: the same weights, their signals, their ends."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tenfold
from tenfold.core import InputError
from tenfold.ledger import Ledger, RunFailed
from tenfold.train import Observer
from tests.monitor.signals.test_text import CONTEXT

STEPS = 25


class Small(nn.Module):
    """Predicts a token from the one before."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(32, 16), nn.Linear(16, 32)

    def forward(self, tokens: Tensor) -> Tensor:
        logits = self.head(self.embed(tokens[:, :-1]))
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def loop(watch: Any = None, *, model: nn.Module | None = None, steps: int = STEPS, optimizer: Any = None) -> nn.Module:
    """The loop itself; `watch` is what one adds."""
    model = model or Small()
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-2)
    for number in range(steps):
        batch = torch.randint(0, 32, (4, CONTEXT + 1), generator=torch.Generator().manual_seed(number))
        loss = model(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if watch:
            watch.step(loss, batch)
    return model


def watched(run: Path, **more: Any) -> nn.Module:
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with tenfold.watch(model, optimizer, run=run, every=5, **more) as watch:
        return loop(watch, model=model, optimizer=optimizer)


def metrics(run: Path) -> dict[str, list[tuple[int, float]]]:
    with closing(Ledger(run / "ledger.sqlite", read_only=True)) as ledger:
        return {name: ledger.metric(1, name) for name in ledger.metric_names(1)}


def status(run: Path) -> str:
    with closing(Ledger(run / "ledger.sqlite", read_only=True)) as ledger:
        return ledger.runs()[-1].status


def test_a_watched_loop_ends_in_the_same_weights_and_its_signals_are_in_the_ledger(tmp_path: Path) -> None:
    ours, alone = watched(tmp_path / "run"), loop()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), alone.parameters(), strict=True))
    found = metrics(tmp_path / "run")
    assert [step for step, _ in found["train/loss"]] == list(range(1, STEPS + 1))
    assert found["train/loss"][-1][1] < found["train/loss"][0][1]
    assert [step for step, _ in found["block/embed/update_norm"]] == [5, 10, 15, 20, 25]
    for name in ("data/fingerprint", "data/repetition", "time/forward", "train/grad_norm", "train/learning_rate"):
        assert len(found[name]) == STEPS, name
    assert {"block/head/grad_norm", "digest/weights", "digest/gradients", "process/memory"} < found.keys()
    assert not any(name.startswith(("source/", "data/odd")) for name in found)
    assert status(tmp_path / "run") == "done"


def test_nothing_is_left_on_the_model_and_the_optimizer(tmp_path: Path) -> None:
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters())
    with tenfold.watch(model, optimizer, run=tmp_path / "run") as watch:
        loop(watch, model=model, steps=2, optimizer=optimizer)
    assert not optimizer._optimizer_step_pre_hooks
    assert not model._forward_hooks and not model._forward_pre_hooks


@pytest.mark.parametrize(("error", "ends"), [(ValueError("a bug"), "failed"), (KeyboardInterrupt(), "interrupted")])
def test_a_loop_that_breaks_is_told_and_its_error_comes_through(
    error: BaseException, ends: str, tmp_path: Path
) -> None:
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(type(error)), tenfold.watch(model, optimizer, run=tmp_path / "run") as watch:
        loop(watch, model=model, steps=3, optimizer=optimizer)
        raise error
    assert status(tmp_path / "run") == ends
    with closing(Ledger(tmp_path / "run/ledger.sqlite", read_only=True)) as ledger:
        assert [each.payload for each in ledger.incidents()] == ([RunFailed()] if ends == "failed" else [])
        assert len(ledger.metric(1, "train/loss")) == 3


def test_an_observer_that_fails_is_taken_out_and_the_loop_goes_on(tmp_path: Path) -> None:
    class Failing(Observer):
        def after_step(self, measure) -> None:
            raise ZeroDivisionError("a bug")

    watched(tmp_path / "run", observers=(Failing(),))
    with closing(Ledger(tmp_path / "run/ledger.sqlite", read_only=True)) as ledger:
        assert [incident.kind for incident in ledger.incidents()] == ["observer-failed"]


def test_a_run_that_goes_on_counts_on(tmp_path: Path) -> None:
    for step in (0, 5):
        model = Small()
        optimizer = torch.optim.AdamW(model.parameters())
        with tenfold.watch(model, optimizer, run=tmp_path / "run", step=step) as watch:
            loop(watch, model=model, steps=5, optimizer=optimizer)
    assert [step for step, _ in metrics(tmp_path / "run")["train/loss"]] == list(range(1, 11))


def test_a_campaign_of_tenfolds_own_and_a_folder_that_cannot_be_are_refused(tmp_path: Path) -> None:
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters())
    (tmp_path / "campaign.toml").write_text("")
    with pytest.raises(InputError, match="a campaign"), tenfold.watch(model, optimizer, run=tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="give another folder"), tenfold.watch(model, optimizer, run=tmp_path / "file"):
        pass
    frozen = Small().requires_grad_(False)
    with pytest.raises(InputError, match="no parameter that is trained"):
        tenfold.watch(frozen, optimizer, run=tmp_path / "other")


def test_hugging_face_trainer_is_watched_by_one_line(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    def trained(callbacks: list[Any]) -> nn.Module:
        torch.manual_seed(0)
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=64, max_position_embeddings=32, **shape))
        rows = [torch.randint(0, 64, (16,), generator=torch.Generator().manual_seed(i)) for i in range(32)]
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "out"), max_steps=12, per_device_train_batch_size=4, report_to=[],
            save_strategy="no", logging_strategy="no", use_cpu=True, seed=1, disable_tqdm=True,
            gradient_accumulation_steps=2,
        )  # fmt: skip
        data = [{"input_ids": row, "labels": row} for row in rows]
        Trainer(model=model, args=arguments, train_dataset=data, callbacks=callbacks).train()
        return model

    ours = trained([tenfold.watch_trainer(tmp_path / "run", every=4)])
    alone = trained([])
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), alone.parameters(), strict=True))
    found = metrics(tmp_path / "run")
    assert [step for step, _ in found["train/loss"]] == list(range(1, 13))
    assert 3.5 < found["train/loss"][0][1] < 5
    assert [step for step, _ in found["block/model.layers.1/update_norm"]] == [4, 8, 12]
    assert status(tmp_path / "run") == "done"
