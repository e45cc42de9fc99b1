"""Every policy against every other: strengths with intervals, and who cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from v2w_gym.evaluation.stats.intervals import CONFIDENCE, Estimate, Floats
from v2w_gym.evaluation.stats.paired import compare

_DRAW = 0.5
_STEPS, _TOLERANCE = 500, 1e-6


def bradley_terry(
    outcomes: npt.ArrayLike, *, seed: int, resamples: int = 500, confidence: float = CONFIDENCE
) -> list[Estimate]:
    """Strength of each policy, in log-odds, from the starts on which two policies fared differently.

    If exactly one of two policies succeeds from a start, the model says that it is the first with odds
    ``exp(first - second)``; how hard the start is cancels out. Strengths sum to 0. Each pair is given half a
    win each way besides what was seen, so that a policy that never loses stays finite, and two that never
    differ are drawn together.

    Args:
        outcomes: ``(policies, starts)`` 1, 0 or NaN (unscorable).
        seed: of the interval's draws.
        resamples: how many. Each weighs the starts anew, alike for all policies (Bayesian bootstrap), and the
            half wins too: for two policies that is Jeffreys' interval.
        confidence: of the interval, which is by percentiles.

    Raises:
        ValueError: outcomes of another shape.
    """
    o = np.asarray(outcomes, dtype=np.float64)
    if o.ndim != 2 or o.size == 0:
        raise ValueError(f"outcomes must be (policies, starts), got {o.shape}")
    (k, starts), rng = o.shape, np.random.default_rng(seed)
    weights = np.concatenate([np.ones((1, starts)), rng.standard_exponential((resamples, starts))])
    given = np.concatenate([np.full((1, k, k), _DRAW), rng.standard_gamma(_DRAW, (resamples, k, k))])
    won, lost = (o == 1).astype(np.float64), (o == 0).astype(np.float64)
    wins = np.einsum("rs,is,js->rij", weights, won, lost, optimize=True)
    strengths = _fit((wins + given) * (1 - np.eye(k)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(strengths[1:], [tail, 1 - tail], axis=0)
    return [
        Estimate(float(v), float(min(lo, v)), float(max(hi, v)))
        for v, lo, hi in zip(strengths[0], low, high, strict=True)
    ]


def _fit(wins: Floats) -> Floats:
    """Most likely strengths ``(r, policies)`` for ``wins (r, policies, policies)``, row against column."""
    odds = np.ones(wins.shape[:2])
    if wins.shape[-1] == 1:
        return np.zeros_like(odds)
    for _ in range(_STEPS):
        share = 1 / (odds[:, :, None] + odds[:, None, :])
        gained = (wins * share * odds[:, None, :]).sum(axis=2)
        lost = (wins.swapaxes(1, 2) * share).sum(axis=2)
        after = np.sqrt(odds * gained / lost)  # the full step would overshoot and swing to and fro
        after /= np.exp(np.log(after).mean(axis=1, keepdims=True))
        moved = float(np.abs(np.log(after / odds)).max())
        odds = after
        if moved < _TOLERANCE:
            break
    return np.log(odds)


def tie_groups(outcomes: npt.ArrayLike, *, error: float = 1 - CONFIDENCE) -> list[str]:
    """Letters for each policy; two that share a letter cannot be told apart.

    Pairs are compared over common starts by McNemar's exact test, with Holm's correction for their number:
    the chance that any two equal policies are told apart is at most ``error``. A policy may have several
    letters, since being alike is not handed on: the middle one of three may be like both others, and those
    differ.

    Args:
        outcomes: ``(policies, starts)`` 1, 0 or NaN (unscorable), best policies first: letters follow that
            order.
        error: of the whole set of comparisons.
    """
    o = np.asarray(outcomes, dtype=np.float64)
    told_apart = _told_apart(o, error)
    groups: list[frozenset[int]] = [frozenset(range(len(o)))]
    for pair in told_apart:
        split = [group - {member} for group in groups if pair <= group for member in pair]
        groups = [group for group in groups if not pair <= group] + split
        groups = [group for group in set(groups) if not any(group < other for other in groups)]
    groups.sort(key=sorted)
    return [
        "".join(letter(i) for i, group in enumerate(groups) if policy in group) for policy in range(len(o))
    ]


def letter(index: int) -> str:
    """a to z, then a2 to z2 and so on."""
    turn, place = divmod(index, 26)
    return chr(ord("a") + place) + (str(turn + 1) if turn else "")


def _told_apart(outcomes: Floats, error: float) -> Sequence[frozenset[int]]:
    """Pairs that differ for sure, by Holm's procedure."""
    compared = {
        frozenset((i, j)): compare(first=outcomes[i], second=outcomes[j])
        for i, j in combinations(range(len(outcomes)), 2)
    }
    # two that share no scored start have no p; NaN would spoil the order of all the others
    pairs = [(pair.p_value if pair.starts else 1.0, who) for who, pair in compared.items()]
    pairs.sort(key=lambda pair: pair[0])
    found = []
    for done, (p_value, pair) in enumerate(pairs):
        if p_value > error / (len(pairs) - done):
            break
        found.append(pair)
    return found
