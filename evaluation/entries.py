"""What a summary says about a single policy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from v2w_gym.evaluation.ledger import Record
from v2w_gym.evaluation.outcomes import successes_by_rule
from v2w_gym.evaluation.rules import CLIP, REPORTED
from v2w_gym.evaluation.stats import Confusion, Estimate, RealOutcomes, rogan_gladen, wilson

UNSTEADY = 0.15
"""A policy whose real success changes by more when its actions are shaken a little is unsteady."""


def entry_of(
    name: str,
    records: Sequence[Record],
    *,
    real: RealOutcomes | None,
    shaken: tuple[float, float] | None,
    error: str | None,
    threshold: float,
    credible_from: float | None,
    confusion: Confusion | None,
) -> dict[str, Any]:
    """The entry of one policy, before it is compared with the others.

    Args:
        name: of the policy.
        records: its finished episodes.
        real: what reality said about it.
        shaken: real success without and with a little noise in the actions.
        error: what went wrong with it.
        threshold: probability from which a frame counts as success.
        credible_from: credibility below which an episode is not to be believed.
        confusion: how the detector errs.
    """
    scored = [r for r in records if r.verdict != "unscorable"]
    successes = sum(r.verdict == "success" for r in scored)
    imagined = plain(wilson(successes=successes, episodes=len(scored)))
    outcomes = real.outcomes if real else np.empty(0)
    measured = plain(wilson(successes=int(outcomes.sum()), episodes=len(outcomes)))
    beliefs = [r.credibility for r in records if r.credibility is not None]
    own = [r.success_rule for r in scored[:1]]
    rules = dict.fromkeys(own if own == [CLIP] else [*REPORTED, *own])  # a whole clip has no steps to rule on
    by_rule = successes_by_rule(scored, list(rules), threshold)
    return {
        "name": name,
        "rank": None,
        "group": None,
        "episodes": len(records),
        "unscorable": len(records) - len(scored),
        "success": imagined["value"],
        "low": imagined["low"],
        "high": imagined["high"],
        "rules": {rule: won / len(scored) if scored else None for rule, won in by_rule.items()},
        "corrected": None
        if confusion is None
        else plain_or_none(rogan_gladen(successes=successes, episodes=len(scored), confusion=confusion)),
        "calibrated": None,
        "strength": None,
        "credibility": float(np.mean(beliefs)) if beliefs else None,
        "abstained": abstention(beliefs, credible_from),
        "real_rank": None,
        "real_episodes": len(outcomes),
        "real_success": measured["value"],
        "real_low": measured["low"],
        "real_high": measured["high"],
        "real_shaken": None if shaken is None else shaken[1],
        "unsteady": shaken is not None and abs(shaken[1] - shaken[0]) > UNSTEADY,
        "error": error,
    }


def abstention(beliefs: Sequence[float], credible_from: float | None) -> str | None:
    """Why a policy is not ranked: most of its episodes are not credible. None if there is no such reason."""
    if credible_from is None:
        return None
    doubtful = sum(belief < credible_from for belief in beliefs)
    if 2 * doubtful <= len(beliefs):
        return None
    return (
        f"{doubtful} of {len(beliefs)} imagined episodes are not credible (below {credible_from:.2f}; "
        f"mean {np.mean(beliefs):.2f})"
    )


def rank_by(entries: Sequence[dict[str, Any]], *, key: str, into: str) -> None:
    """Write ranks, 1 is best; equal values share the better rank."""
    for entry in entries:
        entry[into] = 1 + sum(other[key] > entry[key] for other in entries)


def number(value: float) -> float | None:
    """``value`` as JSON can hold it: None for what is undefined or infinite."""
    return float(value) if math.isfinite(value) else None


def plain(estimate: Estimate) -> dict[str, float | None]:
    """An estimate as JSON can hold it."""
    return {key: number(value) for key, value in asdict(estimate).items()}


def plain_or_none(estimate: Estimate) -> dict[str, float | None] | None:
    """An estimate as JSON can hold it, None as a whole where it is undefined."""
    return None if math.isnan(estimate.value) else plain(estimate)


def successes_of(entry: Mapping[str, Any]) -> tuple[int, int]:
    """Imagined successes of an entry, and out of how many scored episodes."""
    scored = entry["episodes"] - entry["unscorable"]
    return round((entry["success"] or 0.0) * scored), scored
