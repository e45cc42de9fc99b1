"""Hand-computed cases, scipy as a second opinion, and SIMPLER's published tables."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from v2w_gym.evaluation.stats import (
    RealOutcomes,
    agreement,
    clopper_pearson,
    kendall,
    leave_one_out,
    mmrv,
    noise_ceiling,
    pearson,
    regret,
    spearman,
    wilson,
)
from v2w_gym.evaluation.stats.ceiling import shrunk

Table = list[list[float]]

# Success rates published with SIMPLER (simpler_env/utils/metrics.py), simulated and real, of the policies
# RT-2-X, RT-1 converged, RT-1 15 %, RT-1-X, RT-1 begin, Octo
SIMPLER = {
    "pick coke can": ((0.787, 0.857, 0.710, 0.567, 0.027, 0.170), (0.907, 0.853, 0.920, 0.760, 0.133, 0.293)),
    "move near": ((0.779, 0.442, 0.354, 0.317, 0.050, 0.042), (0.733, 0.633, 0.583, 0.450, 0.017, 0.350)),
    "open drawer": ((0.157, 0.601, 0.463, 0.296, 0.000, 0.009), (0.333, 0.815, 0.704, 0.519, 0.000, 0.148)),
    "close drawer": ((0.343, 0.861, 0.667, 0.891, 0.278, 0.444), (0.630, 0.926, 0.889, 0.741, 0.000, 0.519)),
    "place apple": ((0.037, 0.065, 0.130, 0.213, 0.000, 0.000), (0.074, 0.185, 0.185, 0.407, 0.000, 0.000)),
}


def paired(table: Table) -> list[RealOutcomes]:
    return [RealOutcomes(np.asarray(row, dtype=float), paired=True) for row in table]


def test_wilson_by_hand() -> None:
    # z = 1.96: (0.5 + 3.8416/20) / 1.38416 = .5, half = 1.96 sqrt(.025 + .09604/10) / 1.38416 = .2634
    half = wilson(successes=5, episodes=10)
    assert (half.value, round(half.low, 4), round(half.high, 4)) == (0.5, 0.2366, 0.7634)


@pytest.mark.parametrize(("successes", "episodes"), [(0, 20), (20, 20), (7, 50), (1, 1)])
def test_wilson_agrees_with_scipy(successes: int, episodes: int) -> None:
    ours = wilson(successes=successes, episodes=episodes)
    theirs = scipy.stats.binomtest(successes, episodes).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_wilson_of_nothing_is_undefined_and_of_nonsense_an_error() -> None:
    assert np.isnan(wilson(successes=0, episodes=0).value)
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(successes=3, episodes=2)


@pytest.mark.parametrize(("successes", "episodes"), [(0, 20), (20, 20), (7, 50), (1, 1)])
def test_clopper_pearson_agrees_with_scipy(successes: int, episodes: int) -> None:
    ours = clopper_pearson(successes=successes, episodes=episodes)
    theirs = scipy.stats.binomtest(successes, episodes).proportion_ci(method="exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    narrower = wilson(successes=successes, episodes=episodes)
    assert ours.high - ours.low >= narrower.high - narrower.low
    with pytest.raises(ValueError, match="3 of 2"):
        clopper_pearson(successes=3, episodes=2)


def test_correlations_agree_with_scipy_row_by_row() -> None:
    rng = np.random.default_rng(0)
    simulated, real = rng.integers(0, 6, (20, 7)) / 5, rng.integers(0, 6, (20, 7)) / 5
    for i in range(20):
        assert pearson(simulated=simulated, real=real)[i] == pytest.approx(
            scipy.stats.pearsonr(simulated[i], real[i]).statistic
        )
        assert spearman(simulated=simulated, real=real)[i] == pytest.approx(
            scipy.stats.spearmanr(simulated[i], real[i]).statistic
        )
        assert kendall(simulated=simulated, real=real)[i] == pytest.approx(
            scipy.stats.kendalltau(simulated[i], real[i]).statistic
        )


def test_a_constant_side_has_no_correlation() -> None:
    constant, rising = [0.1, 0.1, 0.1], [0.1, 0.2, 0.3]
    for metric in (pearson, spearman, kendall):
        assert np.isnan(metric(simulated=constant, real=rising))
        assert np.isnan(metric(simulated=rising, real=constant))


def test_mmrv_by_hand() -> None:
    # every pair is ordered otherwise, gaps (0, 1) .3, (0, 2) .1, (1, 2) .2; worst per policy .3, .3, .2
    assert mmrv(simulated=[0.2, 0.8, 0.5], real=[0.6, 0.3, 0.5]) == pytest.approx((0.3 + 0.3 + 0.2) / 3)
    assert mmrv(simulated=[0.1, 0.2, 0.9], real=[0.3, 0.4, 0.5]) == 0.0


def test_mmrv_depends_on_the_order_of_its_arguments() -> None:
    first, second = [0.0, 1.0], [0.6, 0.5]
    assert mmrv(simulated=first, real=second) == pytest.approx(0.1)
    assert mmrv(simulated=second, real=first) == pytest.approx(1.0)
    with pytest.raises(TypeError):
        mmrv(first, second)


def test_mmrv_ties() -> None:
    assert mmrv(simulated=[0.5, 0.5], real=[0.9, 0.4]) == pytest.approx(
        0.25
    )  # charges the truly better one only
    assert mmrv(simulated=[0.9, 0.4], real=[0.5, 0.5]) == 0.0
    assert np.isnan(mmrv(simulated=[0.5], real=[0.5]))
    assert np.isnan(mmrv(simulated=[float("nan"), 0.2], real=[0.5, 0.6]))


def test_mmrv_conventions_by_hand() -> None:
    # the pair (0, 1) is ordered otherwise: real gap .1, simulated gap .4
    simulated, real = [0.2, 0.6, 0.9], [0.4, 0.3, 0.5]
    assert mmrv(simulated=simulated, real=real, gap="real") == pytest.approx((0.1 + 0.1 + 0.0) / 3)
    assert mmrv(simulated=simulated, real=real, gap="simulated") == pytest.approx((0.4 + 0.4 + 0.0) / 3)
    tied, apart = [0.5, 0.5], [0.9, 0.4]
    charged = {
        ties: float(mmrv(simulated=tied, real=apart, ties=ties)) for ties in ("strict", "free", "both")
    }
    assert charged == pytest.approx({"strict": 0.25, "free": 0.0, "both": 0.5})
    with pytest.raises(ValueError, match="'strict', 'free' or 'both'"):
        mmrv(simulated=tied, real=apart, ties="loose")


def test_regret_by_hand() -> None:
    assert regret(simulated=[0.9, 0.5, 0.1], real=[0.6, 0.8, 0.2]) == pytest.approx(0.2)
    assert regret(simulated=[0.9, 0.9, 0.1], real=[0.6, 0.8, 0.2]) == pytest.approx(
        0.1
    )  # a blind choice of two
    assert regret(simulated=[0.1, 0.9], real=[0.0, 1.0]) == 0.0
    assert np.isnan(regret(simulated=[0.1, float("nan")], real=[0.0, 1.0]))


@pytest.mark.parametrize(
    ("task", "violation", "swapped", "correlation"),
    [
        ("pick coke can", 0.031, 0.062, 0.975),
        ("move near", 0.111, 0.003, 0.856),
        ("open drawer", 0.0, 0.0, 0.983),
        ("close drawer", 0.123, 0.113, 0.771),
        ("place apple", 0.0, 0.011, 0.969),
    ],
)
def test_published_tables(task: str, violation: float, swapped: float, correlation: float) -> None:
    simulated, real = SIMPLER[task]
    assert round(float(mmrv(simulated=simulated, real=real)), 3) == violation
    assert round(float(mmrv(simulated=real, real=simulated)), 3) == swapped
    assert round(float(pearson(simulated=simulated, real=real)), 3) == correlation


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="alike"):
        mmrv(simulated=[0.1, 0.2], real=[0.1, 0.2, 0.3])


def draw(rates: list[float], episodes: int, seed: int) -> Table:
    luck = np.random.default_rng(seed).random(episodes)  # one start's luck is shared by all policies
    return [(luck < rate).astype(float).tolist() for rate in rates]


def test_interval_holds_the_value_and_is_repeatable() -> None:
    rates = [0.05, 0.2, 0.4, 0.6, 0.8, 0.95]
    simulated, real = draw(rates, 50, 0), draw(rates, 50, 1)
    estimates = agreement(simulated=simulated, real=paired(real), seed=3)
    assert estimates == agreement(simulated=simulated, real=paired(real), seed=3)
    for estimate in estimates.values():
        assert estimate.low <= estimate.value <= estimate.high
    assert estimates["pearson"].low > 0.8
    assert estimates["mmrv"].value == 0.0


def test_resampling_is_paired_by_start() -> None:
    """Imagination equal to reality start by start agrees in every resample; unpaired it does not."""
    table = draw([0.3, 0.45, 0.5, 0.55, 0.7], 40, 0)
    together = agreement(simulated=table, real=paired(table), seed=0)
    assert together["mmrv"].high == 0.0
    assert together["pearson"].low == pytest.approx(1.0)
    apart = [RealOutcomes(np.asarray(row), paired=False) for row in table]
    assert agreement(simulated=table, real=apart, seed=0)["mmrv"].high > 0.0


def test_more_episodes_narrow_the_interval() -> None:
    rates = [0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    widths = []
    for episodes in (10, 1000):
        estimate = agreement(
            simulated=draw(rates, episodes, 0), real=paired(draw(rates, episodes, 1)), seed=0
        )["mmrv"]
        widths.append(estimate.high - estimate.low)
    assert widths[1] < widths[0] / 2


def test_two_policies_prove_nothing() -> None:
    estimate = agreement(simulated=draw([0.1, 0.9], 50, 0), real=paired(draw([0.1, 0.9], 50, 1)), seed=0)[
        "pearson"
    ]
    assert (estimate.value, estimate.low, estimate.high) == (pytest.approx(1.0), -1.0, 1.0)


def test_constant_success_gives_undefined_correlation_but_a_violation() -> None:
    simulated = [[1.0] * 10, [1.0] * 10, [1.0] * 10]
    estimates = agreement(simulated=simulated, real=paired(draw([0.2, 0.5, 0.9], 10, 0)), seed=0)
    assert np.isnan([estimates["pearson"].value, estimates["pearson"].low, estimates["spearman"].high]).all()
    assert estimates["mmrv"].value > 0


def test_unscorable_episodes_weigh_nothing() -> None:
    scored = [[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    holed = [[*row, float("nan")] for row in scored]
    real = [RealOutcomes(np.asarray(row), paired=False) for row in scored]
    values = {k: e.value for k, e in agreement(simulated=scored, real=real, seed=0).items()}
    assert values == {k: e.value for k, e in agreement(simulated=holed, real=real, seed=0).items()}


def test_reality_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="policy 1"):
        agreement(simulated=[[0, 1], [1, 1]], real=paired([[0, 1], [1, 1, 1]]), seed=0)


def test_leave_one_out_names_the_policy_that_everything_hangs_on() -> None:
    simulated, real = [0.5, 0.4, 0.6, 0.5, 0.0], [0.4, 0.6, 0.5, 0.6, 0.0]
    ranges = leave_one_out(simulated=simulated, real=real)
    assert ranges["pearson"].low_without == 4  # without the one that always fails there is no agreement left
    assert ranges["pearson"].low == pytest.approx(pearson(simulated=simulated[:4], real=real[:4]))
    assert ranges["pearson"].high >= pearson(simulated=simulated, real=real) >= ranges["pearson"].low
    assert leave_one_out(simulated=[0.1], real=[0.2])["pearson"].low_without is None


def test_ceiling_of_many_episodes_is_perfect_and_of_few_is_not() -> None:
    rates = np.array([0.1, 0.3, 0.5, 0.7, 0.9])

    def ceiling(episodes: int) -> float:
        return noise_ceiling(
            real_successes=np.round(rates * episodes),
            real_episodes=np.full(5, episodes),
            simulated_episodes=episodes,
            seed=0,
        )["pearson"].value

    assert ceiling(100_000) == pytest.approx(1.0, abs=1e-3)
    assert ceiling(10) < ceiling(100) < ceiling(1000)
    # the correlation of two noisy measurements is the share of their variance that is true
    true, luck = rates.var(), (rates * (1 - rates)).mean() / 50
    assert ceiling(50) == pytest.approx(true / (true + luck), abs=0.02)


def test_ceiling_is_what_a_perfect_evaluator_reaches_on_average() -> None:
    """Estimated from one noisy reality, it is right on average over realities."""
    rng, truth, n = np.random.default_rng(0), np.linspace(0.3, 0.7, 8), 20
    reached, promised = [], []
    for seed in range(100):
        real = rng.binomial(n, truth)
        reached.append(float(pearson(simulated=rng.binomial(n, truth) / n, real=real / n)))
        promised.append(
            noise_ceiling(
                real_successes=real, real_episodes=np.full(8, n), simulated_episodes=n, seed=seed, draws=200
            )["pearson"].value
        )
    assert np.median(promised) == pytest.approx(np.median(reached), abs=0.08)


def test_measured_rates_spread_more_than_true_ones() -> None:
    rng, truth = np.random.default_rng(0), np.linspace(0.2, 0.8, 200)
    measured = rng.binomial(10, truth) / 10
    drawn_in = shrunk(measured, np.full(200, 10))
    assert measured.var() > 1.3 * truth.var()
    assert drawn_in.var() == pytest.approx(truth.var(), rel=0.2)
    assert shrunk(np.array([0.3]), np.array([10])) == [0.3]


def test_single_real_trials_promise_no_perfect_evaluator() -> None:
    """One trial per policy always ends in 0 or 1; that says nothing of how far the true rates spread."""
    single = noise_ceiling(
        real_successes=[0, 1, 1, 0, 1, 0], real_episodes=[1] * 6, simulated_episodes=50, seed=0
    )
    assert single["pearson"].value < 0.9
    assert single["pearson"].low < 0.5
