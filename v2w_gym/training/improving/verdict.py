"""Whether a fine-tuned world is taken over."""

from __future__ import annotations

from collections.abc import Mapping

from v2w_gym.training.improving.config import CheckConfig
from v2w_gym.training.improving.parts import Fidelity

SETS = {"new": "the held-out part of the new play", "old": "the old held-out episodes"}
_SLACK = 1e-9  # of floats: a margin that is just reached is not passed


def objections(
    before: Mapping[str, Fidelity], after: Mapping[str, Fidelity], margins: CheckConfig
) -> list[str]:
    """What speaks against the new world; nothing means that it is taken over.

    Args:
        before: what fidelity must not fall below, for each of ``SETS``: that of the world before on the new
            episodes, that of the first world on the old ones.
        after: fidelity of the new one on the same episodes.
        margins: by how much it may be worse.
    """
    found = []
    for name, where in SETS.items():
        was, now = before[name], after[name]
        for what, worse, margin, told in (
            (
                "PSNR",
                was.psnr_db - now.psnr_db,
                margins.psnr_db,
                f"{was.psnr_db:.2f} to {now.psnr_db:.2f} dB",
            ),
            (
                "verdict agreement",
                was.agreement - now.agreement,
                margins.agreement,
                f"{was.agreement:.3f} to {now.agreement:.3f}",
            ),
            (
                "the share of false successes",
                now.false_success - was.false_success,
                margins.false_success,
                f"{was.false_success:.3f} to {now.false_success:.3f}",
            ),
        ):
            if not worse <= margin + _SLACK:  # a NaN is no improvement
                found.append(f"on {where} {what} went from {told}, by more than {margin:g}")
    return found
