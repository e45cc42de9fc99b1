"""What a summary says about policies together: agreement with reality, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from v2w_gym.evaluation import stats
from v2w_gym.evaluation.entries import number, plain, successes_of
from v2w_gym.evaluation.outcomes import Outcomes
from v2w_gym.evaluation.stats import METRICS, Kind, RealOutcomes, Tried

Entries = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Panel:
    """The policies of a ranking, side by side.

    Attributes:
        scores: policy to its outcomes ``(starts,)`` 1, 0 or NaN.
        seed: of all resampling.
    """

    scores: Mapping[str, Outcomes]
    seed: int

    def agreement(self, measured: Entries, real: Mapping[str, RealOutcomes]) -> dict[str, Any]:
        """Every metric with its interval; None where no policy was measured."""
        if not measured:
            return dict.fromkeys(METRICS)
        drawn = stats.agreement(
            simulated=np.stack([self.scores[e["name"]] for e in measured]),
            real=[real[e["name"]] for e in measured],
            seed=self.seed,
        )
        return {metric: plain(estimate) for metric, estimate in drawn.items()}

    def leave_one_out(self, measured: Entries) -> dict[str, Any] | None:
        """How far each metric hangs on a single policy; None with fewer than three."""
        if len(measured) < 3:
            return None
        names = [e["name"] for e in measured]
        ranges = stats.leave_one_out(
            simulated=[e["success"] for e in measured], real=[e["real_success"] for e in measured]
        )
        return {
            metric: {
                "low": number(r.low),
                "low_without": None if r.low_without is None else names[r.low_without],
                "high": number(r.high),
                "high_without": None if r.high_without is None else names[r.high_without],
            }
            for metric, r in ranges.items()
        }

    def ceiling(self, measured: Entries) -> dict[str, Any] | None:
        """What an evaluator with the right rates would reach with as many episodes; None below two."""
        if len(measured) < 2:
            return None
        episodes = np.array([e["real_episodes"] for e in measured])
        ceilings = stats.noise_ceiling(
            real_successes=np.round([e["real_success"] * e["real_episodes"] for e in measured]),
            real_episodes=episodes,
            simulated_episodes=[successes_of(e)[1] for e in measured],
            seed=self.seed,
        )
        return {metric: plain(estimate) for metric, estimate in ceilings.items()}

    def picked(self, measured: Entries) -> list[str]:
        """The measured policies that imagination calls best."""
        best = max((e["success"] for e in measured), default=None)
        return [e["name"] for e in measured if e["success"] == best]

    def compare(self, ranked: Entries) -> dict[str, Any] | None:
        """Write strengths and tie groups into the entries; return what shared luck did, None below two."""
        if len(ranked) < 2:
            return None
        ordered = sorted(ranked, key=lambda e: (e["rank"], e["name"]))
        names = [e["name"] for e in ordered]
        table = np.stack([self.scores[name] for name in names])
        strengths = stats.bradley_terry(table, seed=self.seed)
        for entry, strength, group in zip(ordered, strengths, stats.tie_groups(table), strict=True):
            entry["strength"], entry["group"] = plain(strength), group
        luck = stats.shared_luck(table)
        return {
            "variance_factor": number(luck.factor),
            "correlation": number(luck.correlation),
            "most": number(luck.most),
            "pair": None if luck.pair is None else [names[i] for i in luck.pair],
        }

    def calibrate(self, ranked: Entries, measured: Entries, kind: Kind) -> dict[str, Any]:
        """Write into the entries what reality to expect; return whether the map helps.

        A policy that reality knows is mapped by what the others teach, so its own real episodes have no say.
        With too few policies nothing is written, and errors are None.
        """
        known = {"kind": kind, "policies": len(measured)}
        if len(measured) < stats.FEWEST:
            return {**known, "raw_error": None, "error": None, "helps": None}
        places = {e["name"]: i for i, e in enumerate(measured)}
        tried = _tried(measured)
        checked = stats.check(tried, kind)
        for entry in ranked:
            place, (successes, episodes) = places.get(entry["name"]), successes_of(entry)
            entry["calibrated"] = plain(
                stats.calibrated(
                    tried if place is None else tried.without(place),
                    kind=kind,
                    successes=successes,
                    episodes=episodes,
                    seed=self.seed,
                )
            )
        return {**known, **asdict(checked), "helps": checked.helps}


def _tried(measured: Entries) -> Tried:
    imagined = np.array([successes_of(e) for e in measured], dtype=np.float64).reshape(-1, 2)
    episodes = np.array([e["real_episodes"] for e in measured], dtype=np.float64)
    real = np.round([e["real_success"] * e["real_episodes"] for e in measured])
    return Tried(imagined[:, 0], imagined[:, 1], real, episodes)
