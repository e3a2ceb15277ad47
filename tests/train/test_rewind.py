"""Going back and leaving batches out: the weights are those of a run that never saw them, on any number of ranks."""

import json
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.config import load_campaign
from tenfold.core.errors import Interrupted, NotFinite
from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.ledger import Ledger, LossNotFinite, RewindRefused, RunRewound
from tenfold.train.batching import batch_number
from tenfold.train.checkpoint import Checkpointer
from tenfold.train.journal import journal_of
from tenfold.train.learner import build_learner
from tenfold.train.loop import Loop, TrainResult
from tenfold.train.observe import LoopRequest, Observer
from tenfold.train.ranks import Ranks, choose_device
from tests.campaign.small import built_campaign, copy_of
from tests.warm import run_ranks


class GoBack(Observer):
    """Asks once, after a step, to go back to before another."""

    def __init__(self, *, at: int, to: int, stop_at: int | None = None, beyond: int = 0) -> None:
        self.at, self.to, self.stop_at, self.beyond = at, to, stop_at, beyond
        self.trained: list[tuple[int, int]] = []

    def before_step(self, batch) -> None:
        self.trained.append((batch.step, batch.first_sample))

    def after_step(self, measure) -> None:
        if measure.step == self.at:
            self.at = -1
            self.ask(LoopRequest(back_to=self.to, beyond=self.beyond))
        if measure.step == self.stop_at:
            self.stop_at = None
            self.ask(LoopRequest(stop=True))


class Skip(Loop):
    """Has left batches out from the start."""

    def resume(self) -> None:
        super().resume()
        self.skipped = [11, 12, 13, 14, 15]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_campaign(tmp_path_factory.mktemp("built"))


def trained(directory: Path, *observers: Observer, loop: type[Loop] = Loop) -> TrainResult:
    files, campaign = CampaignFiles(directory), load_campaign(directory)
    learner = build_learner(campaign, files.data, Manifest.load(files.data), Ranks(0, 1, choose_device("cpu")))
    with (
        Checkpointer(files.directory / "checkpoints", keep_last=3) as checkpointer,
        journal_of(learner, files) as journal,
    ):
        return loop(learner, checkpointer, [*observers, journal]).run()


def events(directory: Path) -> Iterator[object]:
    with closing(Ledger(directory / "ledger.sqlite", read_only=True)) as ledger:
        yield from (event.payload for event in ledger.events())


def test_batches_that_are_left_out_move_the_others_up() -> None:
    assert [batch_number(step, [2, 3, 5]) for step in range(5)] == [0, 1, 4, 6, 7]
    assert [batch_number(step) for step in range(3)] == [0, 1, 2]


def test_the_weights_are_those_of_a_run_that_never_saw_the_batches(built: Path, tmp_path: Path) -> None:
    rewound, never = copy_of(built, tmp_path / "rewound"), copy_of(built, tmp_path / "never")
    observer = GoBack(at=15, to=12)  # told after step 16; the checkpoint before is that of step 10
    result = trained(rewound, observer)
    assert result.weights_digest == trained(never, loop=Skip).weights_digest
    (what,) = [payload for payload in events(rewound) if isinstance(payload, RunRewound)]
    assert what == RunRewound(step=16, to_step=10, first_batch=11, last_batch=15)
    assert [step for step, _ in observer.trained] == [*range(16), *range(10, 40)]
    assert [sample // 8 for _, sample in observer.trained[16:]] == [10, *range(16, 45)]
    with closing(Ledger(rewound / "ledger.sqlite", read_only=True)) as ledger:
        assert [step for step, _ in ledger.metric(1, "train/loss")] == list(range(1, 41))


def test_batches_beyond_now_are_left_out_as_well(built: Path, tmp_path: Path) -> None:
    rewound, never = copy_of(built, tmp_path / "rewound"), copy_of(built, tmp_path / "never")
    result = trained(rewound, GoBack(at=13, to=12, beyond=2))  # told after step 14: batches 11 to 13, and two more
    assert result.weights_digest == trained(never, loop=Skip).weights_digest


def test_a_resumed_run_still_leaves_them_out(built: Path, tmp_path: Path) -> None:
    whole, parts = copy_of(built, tmp_path / "whole"), copy_of(built, tmp_path / "parts")
    expected = trained(whole, GoBack(at=15, to=12)).weights_digest
    with pytest.raises(Interrupted):
        trained(parts, GoBack(at=15, to=12, stop_at=24))
    assert trained(parts).weights_digest == expected


def test_without_a_checkpoint_from_before_the_run_goes_on_and_says_so(built: Path, tmp_path: Path) -> None:
    alone, asked = copy_of(built, tmp_path / "alone"), copy_of(built, tmp_path / "asked")
    assert trained(asked, GoBack(at=6, to=3)).weights_digest == trained(alone).weights_digest
    assert [payload for payload in events(asked) if isinstance(payload, RewindRefused)] == [RewindRefused(7, 3)]


def test_a_stop_asked_for_with_a_way_back_is_served_after_it(built: Path, tmp_path: Path) -> None:
    whole, parts = copy_of(built, tmp_path / "whole"), copy_of(built, tmp_path / "parts")
    expected = trained(whole, GoBack(at=15, to=12)).weights_digest
    observer = GoBack(at=15, to=12, stop_at=15)
    with pytest.raises(Interrupted, match="step 11/40"):
        trained(parts, observer)
    assert trained(parts).weights_digest == expected


@pytest.mark.parametrize(("at", "to"), [(39, 3), (40, 38)])
def test_what_cannot_be_gone_back_to_at_the_end_is_said_and_the_run_is_saved(
    at: int, to: int, built: Path, tmp_path: Path
) -> None:
    alone, asked = copy_of(built, tmp_path / "alone"), copy_of(built, tmp_path / "asked")
    assert trained(asked, GoBack(at=at, to=to)).weights_digest == trained(alone).weights_digest
    assert RewindRefused(40, to) in list(events(asked))
    assert (asked / "checkpoints" / "step-00000040").exists()


class Poisoned(Observer):
    """Makes the gradients of one batch NaN, and where it may, asks to leave it out."""

    def __init__(self, batch: int, *, may: bool) -> None:
        self.bad, self.may, self.here = batch, may, False

    def before_step(self, batch) -> None:
        self.here = batch.first_sample == self.bad * batch.samples

    def gradients_ready(self, state) -> None:
        if self.here:
            next(state.root.parameters()).grad.fill_(math.nan)

    def noticed(self, notice) -> None:
        if self.may and isinstance(notice.what, LossNotFinite):
            self.ask(LoopRequest(back_to=notice.what.step))


class SkipOne(Loop):
    def resume(self) -> None:
        super().resume()
        self.skipped = [13]


def test_a_step_that_is_not_finite_is_left_out_where_that_is_asked_for(built: Path, tmp_path: Path) -> None:
    poisoned, never, refused = (copy_of(built, tmp_path / name) for name in ("poisoned", "never", "refused"))
    result = trained(poisoned, Poisoned(13, may=True))
    assert result.weights_digest == trained(never, loop=SkipOne).weights_digest
    assert RunRewound(14, 13, 13, 13) in list(events(poisoned))
    with pytest.raises(NotFinite, match="step 14"):
        trained(refused, Poisoned(13, may=False))
    with closing(Ledger(refused / "ledger.sqlite", read_only=True)) as ledger:
        assert [incident.kind for incident in ledger.incidents()] == ["not-finite"]


def test_two_ranks_go_back_together(built: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("rewound", "never"):
        campaign = copy_of(built, tmp_path / name)
        run_ranks([str(Path(__file__).parent / "rewound_ranks.py"), str(campaign), name])
        digests.append(json.loads((campaign / "digest.json").read_text()))
    assert digests[0] == digests[1]
