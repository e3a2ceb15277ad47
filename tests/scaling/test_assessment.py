"""What a change is worth: multipliers undo the law, intervals hold, verdicts err seldom, trends are seen when clear."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tenfold.core.errors import InputError
from tenfold.scaling.assessment import Assessment, assess, judge, stack_held, stacked
from tenfold.scaling.effect import Worth, fit_line
from tenfold.scaling.laws import HOFFMANN
from tenfold.scaling.multiplier import Comparison, groups_of, log_multipliers
from tenfold.scaling.predict import ScalingLaw, fit_scaling_law
from tests.scaling.ladders import Design, ladder
from tests.scaling.runs import grid, made

TARGET = (3e8, 6e9)  # 7 times the compute of the largest rung of four sizes
EXPERIMENTS = 120


@pytest.fixture(scope="module")
def known() -> ScalingLaw:
    return fit_scaling_law(made(grid()), laws=[HOFFMANN])  # the very law that made the runs


def always(times: float) -> Callable[[float], float]:
    return lambda compute: times


def fading(compute: float) -> float:
    """1.5x at the smallest rung, nothing two decades above it."""
    return math.exp(max(0.0, math.log(1.5) * (1 - math.log10(compute / 6e15) / 2)))


def growing(compute: float) -> float:
    """1.1x at the smallest rung, 1.2 times as much each decade."""
    return 1.1 * 1.2 ** math.log10(compute / 6e15)


@dataclass(frozen=True)
class Experiments:
    """Many experiments of one design: how often each verdict came, and how often intervals held the truth."""

    assessments: list[Assessment]

    def share(self, verdict: str) -> float:
        return sum(found.verdict == verdict for found in self.assessments) / len(self.assessments)

    def trend(self, trend: str) -> float:
        return sum(found.trend == trend for found in self.assessments) / len(self.assessments)

    def covered(self, name: str, level: float, truth: float = 1.0) -> float:
        edges = [getattr(found, name).intervals[level] for found in self.assessments]
        return sum(low <= truth <= high for low, high in edges) / len(edges)


def repeat(law: ScalingLaw, design: Design, worth: Callable[[float], float] = always(1.0), count: int = EXPERIMENTS):
    """Draw the noise afresh `count` times; all of them are measured at once, which is quicker."""
    random = np.random.default_rng([design.sizes, design.seeds, round(100 * design.correlation)])
    drawn = [ladder(design, worth, random) for _ in range(count)]
    measured = log_multipliers(law, [comparison for one in drawn for comparison in one])
    size, goal = len(drawn[0]), law.points(*TARGET)
    parts = [measured.take(slice(at * size, (at + 1) * size)) for at in range(count)]
    return Experiments([judge(part, one, goal) for part, one in zip(parts, drawn, strict=True)])


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_a_change_without_effect_is_seldom_decided_and_its_intervals_hold(
    known: ScalingLaw, correlation: float
) -> None:
    designs = [Design(sizes, seeds, correlation=correlation) for sizes in (3, 4) for seeds in (1, 2, 3)]
    found = [repeat(known, design) for design in designs]
    assert min(one.share("undecided") for one in found) >= 0.88  # of EXPERIMENTS alone: some luck is in it
    together = Experiments([assessment for one in found for assessment in one.assessments])
    assert together.share("undecided") >= 0.93
    for name in ("pooled", "at_target", "slope_per_decade"):
        assert 0.75 <= together.covered(name, 0.8) <= 0.90
        assert together.covered(name, 0.95) >= 0.93


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_a_change_worth_three_tenths_is_adopted_and_its_reverse_rejected(known: ScalingLaw, correlation: float) -> None:
    design = Design(sizes=3, seeds=2, correlation=correlation)
    gain = repeat(known, design, always(1.3), 100)
    assert gain.share("adopt") >= 0.98
    assert 0.72 <= gain.covered("pooled", 0.8, 1.3) <= 0.93
    assert repeat(known, design, always(1 / 1.3), 100).share("reject") >= 0.98


def test_a_fading_and_a_growing_gain_are_told_apart(known: ScalingLaw) -> None:
    design = Design(seeds=3, noise=0.001)
    faded = repeat(known, design, fading, 50)
    assert faded.trend("fades") == 1.0
    assert faded.share("adopt") <= 0.02
    assert repeat(known, design, growing, 50).trend("grows") == 1.0


def test_a_harm_that_shrinks_fades(known: ScalingLaw) -> None:
    harmful = ladder(Design(seeds=3, noise=0.001), lambda compute: 1 / fading(compute), np.random.default_rng(1))
    assert assess(known, harmful, TARGET).trend == "fades"


def test_a_steady_gain_holds_only_if_that_is_known(known: ScalingLaw) -> None:
    assert repeat(known, Design(seeds=3, noise=1e-5), always(1.3), 20).trend("holds") >= 0.7
    assert repeat(known, Design(seeds=1, noise=0.01), always(1.3), 20).trend("holds") == 0.0


@pytest.mark.parametrize("times", [0.3, 1 / 1.3, 1.0, 1.3, 4.0])
def test_without_noise_the_multiplier_is_the_one_put_in(known: ScalingLaw, times: float) -> None:
    found = assess(known, ladder(Design(), always(times)), TARGET)
    for worth in (found.pooled, found.at_target, *(scale.worth for scale in found.scales)):
        assert worth.value == pytest.approx(times, rel=2e-3)


def test_a_change_that_costs_compute_is_charged_for_it(known: ScalingLaw) -> None:
    dearer = [replace(one, changed_compute=2 * one.compute) for one in ladder(Design(), always(1.5))]
    found = assess(known, dearer, TARGET)
    assert found.pooled.value == pytest.approx(0.75, rel=2e-3)
    assert found.verdict == "reject"


def test_the_laws_level_does_not_matter_for_it_is_anchored_at_the_reference_run(known: ScalingLaw) -> None:
    plain = ladder(Design(), always(1.3))
    shifted = [replace(one, reference_loss=2 * one.reference_loss, changed_loss=2 * one.changed_loss) for one in plain]
    first, second = (assess(known, runs, TARGET).pooled.value for runs in (plain, shifted))
    assert first == pytest.approx(second, rel=1e-9)


def test_an_uncertain_law_widens_the_interval_of_an_effect_but_makes_none(known: ScalingLaw) -> None:
    unsure = fit_scaling_law(made(grid(4, 4), noise=0.02), laws=[HOFFMANN])
    exact, gain = ladder(Design()), ladder(Design(), always(2.0))
    assert assess(unsure, exact, TARGET).pooled.half(0.8) < 1e-3
    assert assess(unsure, gain, TARGET).pooled.half(0.8) > 3 * assess(known, gain, TARGET).pooled.half(0.8)


def test_a_loss_below_the_laws_floor_is_capped_marked_and_leaves_the_interval_open(known: ScalingLaw) -> None:
    found = assess(known, [replace(one, changed_loss=0.5) for one in ladder(Design())], TARGET)
    assert found.verdict == "adopt"
    assert found.pooled.value == pytest.approx(1000.0)
    assert found.pooled.intervals[0.95][1] == 1e6
    assert all(scale.capped for scale in found.scales)
    assert "24 of 24 losses are beyond what the reference law reaches" in found.why
    one_only = ladder(Design(), always(1.3))
    one_only[0] = replace(one_only[0], changed_loss=0.5)
    assert [scale.capped for scale in assess(known, one_only, TARGET).scales].count(True) == 1


def test_a_gain_that_turns_into_a_loss_at_the_target_is_not_adopted(known: ScalingLaw) -> None:
    def turning(compute: float) -> float:
        return 1.6 * 0.7 ** math.log10(compute / 6e15)

    found = assess(known, ladder(Design(seeds=3, noise=0.001), turning, np.random.default_rng(3)), TARGET)
    assert (found.verdict, found.trend) == ("reject", "fades")
    assert found.pooled.above(0.95)
    assert "fades to a loss at the target" in found.why
    unsure = assess(known, ladder(Design(sizes=3, noise=0.004), turning, np.random.default_rng(3)), TARGET)
    assert unsure.verdict != "adopt"


def test_the_interval_widens_with_the_distance_of_the_target(known: ScalingLaw) -> None:
    runs = ladder(Design(), always(1.3), np.random.default_rng(4))
    halves = [assess(known, runs, (n, 20 * n)).at_target.half(0.8) for n in (1e8, 1e9, 1e10)]
    assert halves == sorted(halves)
    assert halves[2] > 1.5 * halves[0]


def test_noise_and_what_a_trunk_shares_of_it_are_found_again(known: ScalingLaw) -> None:
    found = repeat(known, Design(seeds=3, correlation=0.7), count=100).assessments
    assert np.median([one.noise for one in found]) == pytest.approx(0.003 * math.sqrt(2), rel=0.1)
    assert np.median([one.correlation for one in found]) == pytest.approx(0.7, abs=0.1)
    assert found[0].degrees_of_freedom == 4 * 3 - 2


def test_the_slope_is_that_of_generalised_least_squares(known: ScalingLaw) -> None:
    runs = ladder(Design(), always(1.2), np.random.default_rng(5))
    measured, group = log_multipliers(known, runs), groups_of(runs)
    log_compute = np.log([one.compute for one in runs])
    alike = np.full(len(runs), 0.06)
    line = fit_line(log_compute, measured.value, alike, group)
    ratio = _trunk_to_own(line.between_share, log_compute, group)
    covariance = np.eye(len(runs)) + ratio * (group[:, None] == group)
    design = np.stack([np.ones(len(runs)), log_compute - line.middle], axis=1)
    inverse = np.linalg.inv(covariance)
    pooled, slope = np.linalg.solve(design.T @ inverse @ design, design.T @ inverse @ measured.value)
    assert line.pooled.value == pytest.approx(pooled, rel=1e-9)
    assert line.slope.value == pytest.approx(slope, rel=1e-6)


def _trunk_to_own(share: float, x: np.ndarray, group: np.ndarray) -> float:
    """Variance a trunk shares over variance of one cool-down, at which the trunks' means get `share` of the slope."""
    count = np.bincount(group)
    means = np.bincount(group, x) / count
    own = float(((x - means[group]) ** 2).sum())
    between = float(((means - means.mean()) ** 2).sum())
    return between * (1 - share) / (share * own) - 1 / count[0]


def test_the_order_of_comparisons_does_not_matter(known: ScalingLaw) -> None:
    runs = ladder(Design(), always(1.2), np.random.default_rng(6))
    backwards = assess(known, runs[::-1], TARGET)
    forwards = assess(known, runs, TARGET)
    assert [scale.rung for scale in backwards.scales] == [scale.rung for scale in forwards.scales]
    assert backwards.pooled.value == pytest.approx(forwards.pooled.value, rel=1e-12)


def test_one_cooldown_a_trunk_is_enough(known: ScalingLaw) -> None:
    runs = [one for one in ladder(Design(), always(1.3), np.random.default_rng(7)) if one.rung.endswith("-20")]
    found = assess(known, runs, TARGET)
    assert (found.verdict, found.correlation, found.degrees_of_freedom) == ("adopt", None, 6)


def test_the_record_is_plain_json(known: ScalingLaw) -> None:
    found = assess(known, ladder(Design(), always(1.3), np.random.default_rng(8)), TARGET)
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert record["verdict"] == "adopt"
    assert record["seeds"] == 2
    assert record["at_target"]["parameters"] == pytest.approx(3e8)
    assert record["at_target"]["intervals"]["0.95"][0] < record["at_target"]["low"] < record["at_target"]["value"]
    scale = record["scales"][0]
    assert set(scale) >= {"rung", "trunk", "compute", "value", "low", "high", "seeds", "capped"}
    assert [entry["compute"] for entry in record["scales"]] == sorted(entry["compute"] for entry in record["scales"])


def spoil(runs: list[Comparison], **change: float) -> list[Comparison]:
    return [replace(runs[0], **change), *runs[1:]]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (spoil(ladder(Design()), changed_loss=math.nan), "rung 1e+07-10 seed 0: changed_loss = nan: must be a finite"),
        (spoil(ladder(Design()), compute=0.0), "rung 1e+07-10 seed 0: compute = 0.0: must be a finite number above 0"),
        (ladder(Design()) * 2, "rung 1e+07-10 seed 0: given twice"),
        (ladder(Design(sizes=1, seeds=3)), "1 sizes and 3 trunks"),
        (ladder(Design(sizes=2, seeds=1)), "2 sizes and 2 trunks"),
        ([], "0 sizes and 0 trunks"),
        ([replace(one, compute=1e16) for one in ladder(Design())], "all sizes were compared at the same compute"),
    ],
)
def test_comparisons_that_say_nothing_are_refused(known: ScalingLaw, runs: list[Comparison], message: str) -> None:
    with pytest.raises(InputError) as caught:
        assess(known, runs, TARGET)
    assert str(caught.value).startswith(message)


def test_a_stack_is_the_product_and_is_held_against_what_was_measured(known: ScalingLaw) -> None:
    single = [assess(known, ladder(Design(), always(x), np.random.default_rng(9)), TARGET) for x in (1.2, 1.3)]
    product = stacked(single)
    assert product.value == pytest.approx(single[0].at_target.value * single[1].at_target.value)
    assert product.half(0.8) == pytest.approx(math.hypot(*(one.at_target.half(0.8) for one in single)))

    def measured(times: float) -> Worth:
        return assess(known, ladder(Design(noise=0.001), always(times), np.random.default_rng(10)), TARGET).at_target

    assert stack_held(product, measured(1.56)).held
    overlap, synergy = stack_held(product, measured(0.9)), stack_held(product, measured(4.0))
    assert not overlap.held and "overlap" in overlap.why
    assert not synergy.held and "help each other" in synergy.why
    assert json.dumps(overlap.record())


def test_changes_for_different_targets_are_not_stacked(known: ScalingLaw) -> None:
    runs = ladder(Design(), always(1.2))
    with pytest.raises(InputError, match="assessed for 2 different targets"):
        stacked([assess(known, runs, TARGET), assess(known, runs, (1e9, 2e10))])
