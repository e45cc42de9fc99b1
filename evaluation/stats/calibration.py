"""From imagined to real success: a map learnt from the policies that reality has tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from v2w_gym.evaluation.stats.intervals import CONFIDENCE, Estimate, Floats

Kind = Literal["affine", "isotonic"]
KINDS: tuple[Kind, ...] = ("affine", "isotonic")
FEWEST = 5
"""Policies that reality must have tried: each is mapped by the others, and they are checked on each other."""

_DRAWS = 500
_FEWEST = 3


@dataclass(frozen=True)
class Tried:
    """Policies that were tried in imagination and in reality; arrays ``(policies,)``.

    Attributes:
        simulated: imagined successes.
        simulated_episodes: out of so many.
        real: real successes.
        real_episodes: out of so many.

    Raises:
        ValueError: fewer than three policies, one without episodes, or impossible counts.
    """

    simulated: Floats
    simulated_episodes: Floats
    real: Floats
    real_episodes: Floats

    def __post_init__(self) -> None:
        shapes = {
            np.shape(part)
            for part in (self.simulated, self.simulated_episodes, self.real, self.real_episodes)
        }
        if len(shapes) != 1 or len(np.shape(self.simulated)) != 1 or len(self.simulated) < _FEWEST:
            raise ValueError(
                f"a map to reality needs at least {_FEWEST} policies that were tried in imagination and in "
                f"reality, got {np.shape(self.simulated)} and {np.shape(self.real)}"
            )
        for won, of in ((self.simulated, self.simulated_episodes), (self.real, self.real_episodes)):
            if (np.asarray(of) < 1).any() or (np.asarray(won) < 0).any() or (np.asarray(won) > of).any():
                raise ValueError(f"successes must lie in 0..episodes, got {won} of {of}")

    def __len__(self) -> int:
        return len(self.simulated)

    def without(self, index: int) -> Tried:
        """All but one."""
        kept = np.arange(len(self)) != index
        return self[kept]

    def __getitem__(self, rows: npt.NDArray[np.generic]) -> Tried:
        return Tried(
            self.simulated[rows], self.simulated_episodes[rows], self.real[rows], self.real_episodes[rows]
        )


@dataclass(frozen=True)
class Check:
    """Whether the map helps a policy that it was not learnt from.

    Attributes:
        raw_error: mean distance of imagined from real success rates.
        error: the same after the map, each policy mapped by what the others taught.
    """

    raw_error: float
    error: float

    @property
    def helps(self) -> bool:
        """True if the map brings left-out policies nearer to reality."""
        return self.error < self.raw_error


def fit(tried: Tried, kind: Kind) -> tuple[Floats, Floats]:
    """Learn the map.

    ``"affine"`` is a straight line by least squares, cut to 0..1; ``"isotonic"`` is any rising function.
    Policies weigh by their real episodes. A line that falls is made flat: a world that ranks backwards has no
    map.

    Returns:
        Imagined rates in rising order, and the real rate for each; between them the map is straight.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"calibration must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    x, y = tried.simulated / tried.simulated_episodes, tried.real / tried.real_episodes
    weights = np.asarray(tried.real_episodes, dtype=np.float64)
    if kind == "affine":
        x_mean, y_mean = np.average(x, weights=weights), np.average(y, weights=weights)
        spread = float((weights * (x - x_mean) ** 2).sum())
        slope = max(float((weights * (x - x_mean) * (y - y_mean)).sum()) / spread, 0.0) if spread > 0 else 0.0
        grid = np.linspace(0, 1, 101)  # fine enough for the corners where the line is cut
        return grid, np.clip(y_mean + slope * (grid - x_mean), 0.0, 1.0)
    places, where = np.unique(x, return_inverse=True)
    total = np.bincount(where, weights)
    means = np.bincount(where, weights * y) / total
    return places, np.asarray(isotonic_regression(means, weights=total).x)


def calibrated(
    tried: Tried,
    *,
    kind: Kind,
    successes: int,
    episodes: int,
    seed: int,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """What real success rate to expect of a policy that succeeds so often in imagination.

    Args:
        tried: the policies to learn from, without the one in question.
        kind: ``"affine"`` or ``"isotonic"``.
        successes: of the policy in question, imagined.
        episodes: likewise.
        seed: of the interval's draws. Each learns from resampled policies with resampled episodes, maps a
            resampled rate, and adds the miss of a policy that was left out: so it is an interval for this
            policy, not for the average policy that succeeds so often. It is cautious: the misses include the
            luck of reality's own few episodes.
        confidence: of the interval.

    Raises:
        ValueError: an unknown kind, or impossible counts.
    """
    if not 0 <= successes <= episodes or episodes == 0:
        raise ValueError(f"successes must lie in 0..episodes, got {successes} of {episodes}")
    value = float(np.interp(successes / episodes, *fit(tried, kind)))
    misses, rng = _misses(tried, kind), np.random.default_rng(seed)
    drawn = np.empty(_DRAWS)
    for i in range(_DRAWS):
        again = _resampled(tried[rng.integers(len(tried), size=len(tried))], rng)
        rate = rng.binomial(episodes, successes / episodes) / episodes
        drawn[i] = np.interp(rate, *fit(again, kind)) + rng.choice(misses)
    tail = (1 - confidence) / 2
    low, high = np.clip(np.quantile(drawn, [tail, 1 - tail]), 0.0, 1.0)
    return Estimate(value, float(min(low, value)), float(max(high, value)))


def check(tried: Tried, kind: Kind) -> Check:
    """Map each policy by what the others teach, and see whether that brings it nearer to reality.

    Raises:
        ValueError: an unknown kind, or fewer than four policies, of which none can be left out.
    """
    raw = tried.simulated / tried.simulated_episodes - tried.real / tried.real_episodes
    return Check(raw_error=float(np.abs(raw).mean()), error=float(np.abs(_misses(tried, kind)).mean()))


def _misses(tried: Tried, kind: Kind) -> Floats:
    """Real rate less mapped rate of each policy, by the map that the others teach."""
    if len(tried) <= _FEWEST:
        raise ValueError(
            f"a map to reality can be checked with at least {_FEWEST + 1} policies that reality has tried, "
            f"got {len(tried)}"
        )
    mapped = [
        np.interp(tried.simulated[i] / tried.simulated_episodes[i], *fit(tried.without(i), kind))
        for i in range(len(tried))
    ]
    return np.asarray(tried.real / tried.real_episodes - np.array(mapped))


def _resampled(tried: Tried, rng: np.random.Generator) -> Tried:
    n, m = tried.simulated_episodes.astype(np.int64), tried.real_episodes.astype(np.int64)
    return Tried(
        rng.binomial(n, tried.simulated / n).astype(np.float64),
        tried.simulated_episodes,
        rng.binomial(m, tried.real / m).astype(np.float64),
        tried.real_episodes,
    )
