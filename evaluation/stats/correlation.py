"""How alike two lists of success rates order the same policies."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from v2w_gym.evaluation.stats.intervals import Floats

Gap = Literal["real", "simulated"]
Ties = Literal["strict", "free", "both"]


def pearson(*, simulated: npt.ArrayLike, real: npt.ArrayLike) -> Floats:
    """Sample correlation over the last axis ``(..., policies)``; NaN where either side is constant.

    Raises:
        ValueError: the shapes differ.
    """
    s, r = _pair(simulated, real)
    constant = (np.ptp(s, axis=-1) == 0) | (np.ptp(r, axis=-1) == 0)
    s, r = s - s.mean(axis=-1, keepdims=True), r - r.mean(axis=-1, keepdims=True)
    scale = np.sqrt((s * s).sum(axis=-1) * (r * r).sum(axis=-1))
    correlation = (s * r).sum(axis=-1) / np.where(constant, 1.0, scale)
    return np.where(constant, np.nan, np.clip(correlation, -1.0, 1.0))


def spearman(*, simulated: npt.ArrayLike, real: npt.ArrayLike) -> Floats:
    """Rank correlation over the last axis, tied values sharing their mean rank; NaN where a side is constant.

    Raises:
        ValueError: the shapes differ.
    """
    s, r = _pair(simulated, real)
    return pearson(simulated=rankdata(s, axis=-1), real=rankdata(r, axis=-1))


def kendall(*, simulated: npt.ArrayLike, real: npt.ArrayLike) -> Floats:
    """Kendall's tau-b over the last axis: pairs ordered alike less pairs ordered otherwise, ties allowed for.

    NaN where a side is constant or undefined.

    Raises:
        ValueError: the shapes differ.
    """
    s, r = _pair(simulated, real)
    s_order, r_order = np.sign(_differences(s)), np.sign(_differences(r))
    pairs = (-2, -1)
    untied = (s_order**2).sum(axis=pairs) * (r_order**2).sum(axis=pairs)
    alike = (s_order * r_order).sum(axis=pairs)
    return np.where(untied == 0, np.nan, alike / np.sqrt(np.where(untied == 0, 1.0, untied)))


def mmrv(
    *, simulated: npt.ArrayLike, real: npt.ArrayLike, gap: Gap = "real", ties: Ties = "strict"
) -> Floats:
    """Mean maximum rank violation over the last axis, as SIMPLER (arXiv 2405.05941) defines it by default.

    A pair that the simulation orders otherwise than reality costs a gap; every policy counts with its
    costliest pair. In 0..1, lower is better. NaN for fewer than two policies, which have no order to violate.
    Published values differ in two conventions, so both have names:

    Args:
        simulated: success rates ``(..., policies)``.
        real: likewise; not to be swapped with ``simulated``.
        gap: whose difference a violated pair costs, ``"real"`` (SIMPLER) or ``"simulated"``.
        ties: ``"strict"`` (SIMPLER) compares by ``>`` on both sides, so a tie in simulation alone charges the
            truly better policy only, and a tie in reality the other way round (at no cost where the gap is
            the real one); ``"free"`` charges no tie; ``"both"`` charges both policies of a pair that is tied
            on one side alone.

    Raises:
        ValueError: the shapes differ, or there is no such convention.
    """
    s, r = _pair(simulated, real)
    if gap not in ("real", "simulated") or ties not in ("strict", "free", "both"):
        raise ValueError(
            f"gap must be 'real' or 'simulated', ties 'strict', 'free' or 'both', got {gap!r} and {ties!r}"
        )
    if s.shape[-1] < 2:
        return np.full(s.shape[:-1], np.nan)
    s_gap, r_gap = _differences(s), _differences(r)
    if ties == "strict":
        violated = (s_gap > 0) != (r_gap > 0)
    elif ties == "free":
        violated = s_gap * r_gap < 0
    else:
        violated = np.sign(s_gap) != np.sign(r_gap)
    cost = np.abs(r_gap if gap == "real" else s_gap)
    worst = np.where(violated, cost, 0.0).max(axis=-1)
    return np.where(np.isnan(s).any(axis=-1) | np.isnan(r).any(axis=-1), np.nan, worst.mean(axis=-1))


def regret(*, simulated: npt.ArrayLike, real: npt.ArrayLike) -> Floats:
    """Real success lost by taking the policy that simulation calls best, over the last axis.

    Where several share the best simulated rate, one of them is taken blindly, so their mean counts. In 0..1;
    NaN where a rate is undefined.

    Raises:
        ValueError: the shapes differ.
    """
    s, r = _pair(simulated, real)
    undefined = np.isnan(s).any(axis=-1) | np.isnan(r).any(axis=-1)
    best = s == s.max(axis=-1, keepdims=True)
    taken = np.where(best, r, 0.0).sum(axis=-1) / np.maximum(best.sum(axis=-1), 1)
    return np.where(undefined, np.nan, np.maximum(r.max(axis=-1) - taken, 0.0))


def _differences(rates: Floats) -> Floats:
    """Every policy's rate less every other's, ``(..., policies, policies)``."""
    return np.asarray(rates[..., :, None] - rates[..., None, :])


def _pair(simulated: npt.ArrayLike, real: npt.ArrayLike) -> tuple[Floats, Floats]:
    s, r = np.asarray(simulated, dtype=np.float64), np.asarray(real, dtype=np.float64)
    if s.shape != r.shape or s.ndim == 0 or s.shape[-1] == 0:
        raise ValueError(f"simulated and real must be alike, (..., policies), got {s.shape} and {r.shape}")
    return s, r
