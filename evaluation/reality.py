"""Measured success: what ``reality.json`` of a world says about policies, in the order of the starts.

``{"command": "...", "episodes": 100, "policies": {"bc-10": {"success": 0.41, "episodes": 100,
"shaken": {"noise": 0.03, "success": 0.4}, "outcomes": {"seed-0000": true, ...}}}}``; ``outcomes`` may be left
out where reality has no start ids, ``shaken`` where nobody has tried. A trial that nobody could score has no
outcome: its start is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from v2w_gym.evaluation.stats import RealOutcomes


def real_outcomes(
    reality: Mapping[str, Any] | None, policies: Sequence[str], starts: Sequence[str]
) -> dict[str, RealOutcomes]:
    """Real outcomes of those policies that reality knows.

    A policy that was measured from all of ``starts`` is compared start by start, on these starts alone; one
    that was not is compared by its overall rate.

    Args:
        reality: content of ``reality.json``, or None.
        policies: names.
        starts: ids of the starts of the imagined episodes.

    Raises:
        ValueError: ``reality.json`` does not have the form above.
    """
    known = (reality or {}).get("policies", {})
    if reality is not None and not isinstance(reality.get("policies"), Mapping):
        raise ValueError("reality.json must hold a mapping 'policies' from policy name to measured success")
    return {name: _outcomes(name, known[name], starts) for name in policies if name in known}


def shaken_success(
    reality: Mapping[str, Any] | None, policies: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Real success over the same starts, first without, then with a little noise in the actions.

    Of those policies that were tried so.

    Raises:
        ValueError: ``reality.json`` does not have the form above.
    """
    known = (reality or {}).get("policies", {})
    tried = [name for name in policies if "shaken" in known.get(name, ())]
    try:
        return {
            name: (float(known[name]["success"]), float(known[name]["shaken"]["success"])) for name in tried
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            'reality.json: "shaken" must look like {"noise": 0.03, "success": 0.4}, beside a "success" '
            f"without noise; got something else for one of {tried} ({error!r})"
        ) from error


def _outcomes(name: str, entry: Any, starts: Sequence[str]) -> RealOutcomes:
    try:
        outcomes: Mapping[str, bool] = entry.get("outcomes") or {}
        if odd := [start for start, ended in outcomes.items() if ended not in (0, 1)]:
            raise ValueError(f"outcome {outcomes[odd[0]]!r} of start {odd[0]!r} is neither true nor false")
        if all(start in outcomes for start in starts):
            return RealOutcomes(
                np.array([outcomes[start] for start in starts], dtype=np.float64), paired=True
            )
        episodes = int(entry["episodes"])
        successes = round(float(entry["success"]) * episodes)
        if not 0 <= successes <= episodes or episodes == 0:
            raise ValueError(f"success {entry['success']} of {episodes} episodes")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'reality.json: policy {name!r} must look like {{"success": 0.41, "episodes": 100, '
            f'"outcomes": {{"start id": true, ...}}}}, got {entry!r} ({error})'
        ) from error
    return RealOutcomes(np.repeat([1.0, 0.0], [successes, episodes - successes]), paired=False)
