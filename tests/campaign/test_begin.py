"""What `tenfold init` writes."""

from pathlib import Path

import pytest

from tenfold.campaign import init_campaign
from tenfold.config import Campaign, Train, example_values, load_campaign
from tenfold.core.errors import InputError
from tests.campaign.small import new_campaign
from tests.data.texts import library_texts, write_texts


def test_own_text_is_judged_on_a_part_of_it_alone(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", library_texts(5))
    init_campaign(tmp_path / "my", "quickstart", str(tmp_path / "texts"))
    campaign = load_campaign(tmp_path / "my")
    assert [holdout.kind for holdout in campaign.data.holdouts] == ["split"]
    assert not campaign.learners.count and not campaign.chaos.faults


@pytest.mark.parametrize(("size", "epochs", "decay"), [(3_000, 8, 4.0), (32_000, 8, 4.0), (1_000_000, 6, 1.0)])
def test_a_small_corpus_is_not_seen_hundreds_of_times(size: int, epochs: int, decay: float, tmp_path: Path) -> None:
    text = "\n".join(library_texts(200, max_bytes=40_000))[:size]
    write_texts(tmp_path / "texts", [text])
    said = init_campaign(tmp_path / "my", "quickstart", str(tmp_path / "texts"))
    campaign = load_campaign(tmp_path / "my")
    assert campaign.train.tokens is not None
    assert campaign.train.tokens / (size * 0.95 / 2.8) == pytest.approx(epochs, rel=0.25)
    assert campaign.train.optimizer.weight_decay == decay and f"weight_decay = {decay:g}" in said["fitted"]
    assert campaign.checkpoint.keep_best == "iid" and campaign.evaluate.every
    assert campaign.train.tokens // campaign.train.batch_tokens >= 10
    assert (campaign.ladder.sizes == 0) == ("no ladder" in said["fitted"]) == (size < 500_000)


def test_text_enough_for_the_example_is_trained_on_as_the_example_says(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", ["All work and no play. " * 150_000])
    init_campaign(tmp_path / "my", "quickstart", str(tmp_path / "texts"))
    campaign, example = load_campaign(tmp_path / "my"), example_values("quickstart")
    assert campaign.train == Train.model_validate(example["train"])
    assert campaign.checkpoint == Campaign().checkpoint


def test_another_campaign_is_copied_with_the_places_it_reads(tmp_path: Path) -> None:
    old = new_campaign(tmp_path / "old")
    (old / "campaign.toml").write_text((old / "campaign.toml").read_text() + f'[checkpoint]\nurl = "{tmp_path}/kept"\n')
    toml = (old / "campaign.toml").read_text().replace("[checkpoint]\nevery = 10\n", "")
    (old / "campaign.toml").write_text(toml)
    init_campaign(tmp_path / "new", "quickstart", None, old)
    before, now = load_campaign(old), load_campaign(tmp_path / "new")
    assert now.data.sources[0].paths == [str(old / "texts")]
    assert now.checkpoint.url is None, "or it would find the other's checkpoints"
    assert (now.name, now.model, now.train, now.ladder) == ("new", before.model, before.train, before.ladder)
    with pytest.raises(InputError, match="no such file; make one with `tenfold init"):
        init_campaign(tmp_path / "other", "quickstart", None, tmp_path / "gone")
    with pytest.raises(InputError, match="leave out --data"):
        init_campaign(tmp_path / "other", "quickstart", "texts", old)
