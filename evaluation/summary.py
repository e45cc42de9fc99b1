"""From facts to numbers: the summary of a ranking is a pure function of ledger records and reality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.evaluation.ledger import Record
from v2w_gym.evaluation.protocol import Protocol
from v2w_gym.evaluation.stats import METRICS, Estimate, RealOutcomes, agreement, wilson

UNSTEADY = 0.15
"""A policy whose real success changes by more when its actions are shaken a little is unsteady."""

_SCORES = {"success": 1.0, "failure": 0.0, "unscorable": math.nan}


def summarise(
    *,
    records: Sequence[Record],
    policies: Sequence[str],
    starts: Sequence[str],
    failures: Mapping[str, str],
    real: Mapping[str, RealOutcomes],
    shaken: Mapping[str, tuple[float, float]],
    protocol: Protocol,
) -> dict[str, Any]:
    """The content of ``summary.json``: plain JSON values, undefined numbers as None.

    Args:
        records: finished episodes.
        policies: names of all policies, in any order.
        starts: ids of the starts every policy should have been run from.
        failures: policy name to what went wrong; such a policy has no rank and no part in the agreement.
        real: measured outcomes of the policies that reality knows.
        shaken: real success without and with a little noise in the actions, of those that were tried so.
        protocol: the conditions.
    """
    scores = {name: _scores(records, name, starts) for name in policies}
    entries = [_entry(name, scores[name], real.get(name), failures.get(name)) for name in policies]
    ranked = [e for e in entries if e["error"] is None and e["success"] is not None]
    _rank(ranked, by="success", into="rank")
    measured = [e for e in ranked if e["real_success"] is not None]
    _rank(measured, by="real_success", into="real_rank")
    for entry in entries:
        _shake(entry, shaken.get(entry["name"]))
    steady = [e for e in measured if not e["unsteady"]]
    estimates = _agreement(measured, scores, real, protocol.seed)
    entries.sort(key=lambda e: (e["rank"] is None, e["rank"], e["name"]))
    return {
        **estimates,
        "steady": None if steady == measured else _agreement(steady, scores, real, protocol.seed),
        "policies": entries,
        "episodes": len(starts),
        **asdict(protocol),
        "config_hash": protocol.hash,
    }


def _scores(records: Sequence[Record], name: str, starts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Outcome per start: 1, 0, NaN for unscorable; only the finished ones where some are missing."""
    verdicts = {r.start_id: r.verdict for r in records if r.policy == name}
    return np.array([_SCORES[verdicts[start]] for start in starts if start in verdicts])


def _entry(
    name: str, scores: npt.NDArray[np.float64], real: RealOutcomes | None, error: str | None
) -> dict[str, Any]:
    scored = scores[~np.isnan(scores)]
    imagined = _plain(wilson(successes=int(scored.sum()), episodes=len(scored)))
    outcomes = real.outcomes if real else np.empty(0)
    measured = _plain(wilson(successes=int(outcomes.sum()), episodes=len(outcomes)))
    return {
        "name": name,
        "rank": None,
        "episodes": len(scores),
        "unscorable": len(scores) - len(scored),
        "success": imagined["value"],
        "low": imagined["low"],
        "high": imagined["high"],
        "real_rank": None,
        "real_episodes": len(outcomes),
        "real_success": measured["value"],
        "real_low": measured["low"],
        "real_high": measured["high"],
        "error": error,
    }


def _shake(entry: dict[str, Any], rates: tuple[float, float] | None) -> None:
    """Note whether the policy's real success survives a little noise in its actions."""
    entry["real_shaken"] = None if rates is None else rates[1]
    entry["unsteady"] = rates is not None and abs(rates[1] - rates[0]) > UNSTEADY


def _agreement(
    measured: Sequence[Mapping[str, Any]],
    scores: Mapping[str, npt.NDArray[np.float64]],
    real: Mapping[str, RealOutcomes],
    seed: int,
) -> dict[str, Any]:
    if not measured:
        return dict.fromkeys(METRICS)
    names = sorted(e["name"] for e in measured)  # resampling must not depend on the order of the policies
    drawn = agreement(
        simulated=np.stack([scores[name] for name in names]), real=[real[name] for name in names], seed=seed
    )
    return {metric: _plain(estimate) for metric, estimate in drawn.items()}


def _rank(entries: Sequence[dict[str, Any]], *, by: str, into: str) -> None:
    """Write ranks, 1 is best; equal values share the better rank."""
    for entry in entries:
        entry[into] = 1 + sum(other[by] > entry[by] for other in entries)


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in asdict(estimate).items()}
