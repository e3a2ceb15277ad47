"""On a GPU: the whole job runs, and a run that is stopped ends in the same bits."""

import json
from pathlib import Path

import pytest
import torch

from tenfold.campaign import run_campaign, run_train
from tests.campaign.small import TOML, new_campaign

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def gpu_campaign(directory: Path) -> Path:
    new_campaign(directory)
    (directory / "campaign.toml").write_text(TOML.replace("[train]\n", '[train]\ndevice = "cuda"\n'))
    return directory


def test_the_same_run_twice_and_resumed_gives_the_same_bits(tmp_path: Path) -> None:
    first = run_campaign(gpu_campaign(tmp_path / "one"), ())["weights_digest"]
    again = gpu_campaign(tmp_path / "two")
    assert run_campaign(again, ())["weights_digest"] == first
    (again / "train.json").unlink()
    for path in sorted((again / "checkpoints").iterdir())[-1:]:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    resumed = run_train(again, ())
    assert resumed is not None and resumed["weights_digest"] == first


def test_compiled_bf16_learns(tmp_path: Path) -> None:
    directory = gpu_campaign(tmp_path / "compiled")
    run_campaign(directory, ["train.compile=on", "train.precision=bf16"])
    report = json.loads((directory / "report.json").read_text())
    losses = [value for _, value in report["curves"]["train/loss"]]
    assert losses[-1] < 0.9 * losses[0]
    assert report["environment"]["gpus"]
