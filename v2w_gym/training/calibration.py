"""From logits to trustworthy probabilities and verdicts, given the truth of some frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

Floats = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]


def fit_calibration(logits: Floats, flags: Flags) -> tuple[float, float]:
    """Temperature and shift for which ``sigmoid(logit / temperature + shift)`` has the least log loss.

    Args:
        logits: ``(n,)``.
        flags: ``(n,)``, the truth; both values must occur.
    """
    if flags.all() or not flags.any():
        raise ValueError("calibration needs frames of success and of failure; record more episodes")
    x = torch.as_tensor(logits, dtype=torch.float64)
    y = torch.as_tensor(flags, dtype=torch.float64)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature, shift], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x * torch.exp(-log_temperature) + shift, y)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_temperature.exp().item(), shift.item()


def episode_probability(probability: Floats) -> Floats:
    """The largest probability of each episode after an action: ``(n,)`` from ``(n, f)`` per frame."""
    largest: Floats = probability[:, 1:].max(axis=1)
    return largest


def choose_threshold(probability: Floats, flags: Flags) -> float:
    """The threshold whose verdicts per episode agree best with the flag; the middle one where several do.

    Args:
        probability: ``(n, f)`` per frame.
        flags: ``(n, f)``, the truth.
    """
    candidates = np.arange(0.05, 0.951, 0.01)
    verdicts = episode_probability(probability)[:, None] >= candidates
    agreement = (verdicts == np.any(flags[:, 1:], axis=1, keepdims=True)).mean(axis=0)
    return float(np.round(np.median(candidates[agreement == agreement.max()]), 2))


def count_verdicts(verdicts: Flags, flags: Flags) -> dict[str, Any]:
    """Confusion matrix and agreement of verdicts with flags, arrays of one shape."""
    return {
        "true_success": int((verdicts & flags).sum()),
        "false_success": int((verdicts & ~flags).sum()),
        "true_failure": int((~verdicts & ~flags).sum()),
        "false_failure": int((~verdicts & flags).sum()),
        "agreement": float((verdicts == flags).mean()),
    }


def reliability(probability: Floats, flags: Flags, bins: int = 10) -> dict[str, Any]:
    """How often frames of each predicted probability are successes, and the mean gap weighted by frames.

    Args:
        probability: ``(n,)`` in 0..1.
        flags: ``(n,)``.
        bins: equal steps of probability.
    """
    which = np.minimum((probability * bins).astype(int), bins - 1)
    rows = []
    for index in range(bins):
        chosen = which == index
        if chosen.any():
            rows.append(
                {
                    "predicted": float(probability[chosen].mean()),
                    "observed": float(flags[chosen].mean()),
                    "frames": int(chosen.sum()),
                }
            )
    gap = sum(row["frames"] * abs(row["predicted"] - row["observed"]) for row in rows) / len(flags)
    return {"expected_calibration_error": gap, "bins": rows}
