"""Must what fails in reality fail in imagination? A world that says yes too easily flatters every policy."""

from __future__ import annotations

from typing import Any

import numpy as np

from v2w_gym.evaluation.audit.evidence import Evidence, Played
from v2w_gym.evaluation.audit.finding import Bound, Finding, judged, not_run
from v2w_gym.evaluation.audit.motion import RECORD_PROBES
from v2w_gym.evaluation.stats import Estimate, wilson

OPTIMISM = ("optimism", "do held-out episodes that fail in reality fail in imagination?")
PROBES = ("optimism_probes", "do behaviours that never succeed fail in imagination?")

RARE = Bound(None, 0.1, "false successes lift every policy's rate by up to their own: at most ten points")
SEES = 0.5  # of the real successes that must be imagined as such, else failure is no evidence


def optimism(evidence: Evidence) -> list[Finding]:
    """False-success rates with Wilson's interval: on held-out episodes, and on behaviours made to fail."""
    played = evidence.heldout
    if evidence.world.config.detector.kind == "none":
        why, remedy = "the world has no success detector", "a world with a detector: v2w train detector"
        return [not_run(*probe, RARE, why, remedy) for probe in (OPTIMISM, PROBES)]
    hits = _rate(played, real=True)
    blind = None
    if not hits.value >= SEES:
        seen = (
            "none of them ends well" if np.isnan(hits.value) else f"{hits.value:.0%} of those that succeed do"
        )
        blind = f"but failing proves nothing where success is not imagined: of the held-out episodes {seen}"
    if played.replay.real.all():
        first = not_run(
            *OPTIMISM, RARE, "every held-out episode succeeds", "--heldout DIR with failures in it"
        )
    else:
        first = _judged(OPTIMISM, played, blind, agreement=played.replay.agreement, hits=hits.value)
    if evidence.probes is None or evidence.probes.replay.real.all():
        return [first, not_run(*PROBES, RARE, "no recorded episodes that never succeed", RECORD_PROBES)]
    return [first, _judged(PROBES, evidence.probes, blind)]


def _judged(probe: tuple[str, str], played: Played, blind: str | None, **details: float) -> Finding:
    failing = ~played.replay.real
    wrong = played.replay.imagined & failing
    says = f"{int(wrong.sum())} of {int(failing.sum())} failing episodes are imagined as successes"
    if "agreement" in details:
        says += f"; verdicts agree in {details['agreement']:.0%} of all {len(failing)}"
    kinds = np.array([episode.behaviour.split(">")[0] for episode in played.episodes])
    extra: dict[str, Any] = {k: None if np.isnan(v) else round(v, 4) for k, v in details.items()}
    extra["wrong_of_failing"] = {
        str(kind): [int((wrong & (kinds == kind)).sum()), int((failing & (kinds == kind)).sum())]
        for kind in np.unique(kinds[failing])
    }
    return judged(*probe, RARE, _rate(played, real=False), says, unless=blind, **extra)


def _rate(played: Played, *, real: bool) -> Estimate:
    """Share of the episodes with this real verdict that are imagined as successes."""
    rows = played.replay.real == real
    return wilson(successes=int(played.replay.imagined[rows].sum()), episodes=int(rows.sum()))
