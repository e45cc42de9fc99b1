"""Returns of imagined steps and their scale, as pure functions; DreamerV3 is arXiv 2301.04104."""

from __future__ import annotations

import torch


def symlog(x: torch.Tensor) -> torch.Tensor:
    """Logarithm of the size with the sign kept: sign(x) ln(1 + |x|) (DreamerV3, "Robust predictions")."""
    return x.sign() * x.abs().log1p()


def symexp(x: torch.Tensor) -> torch.Tensor:
    """What undoes :func:`symlog`."""
    return x.sign() * x.abs().expm1()


def lambda_returns(
    reward: torch.Tensor,
    terminated: torch.Tensor,
    truncated: torch.Tensor,
    next_value: torch.Tensor,
    discount: float,
    trace: float,
) -> torch.Tensor:
    """Returns that mix all numbers of steps (DreamerV3, "Critic learning"), episode by episode.

    A step that terminates is worth its reward. One that is truncated is worth its reward and the discounted
    value of the frame that it led to, and nothing of what follows in the row, which is another episode or
    none. So is the last step of a row, however it ends, unless it terminates.

    Args:
        reward: ``(b, f)``, of the step from frame t to t + 1.
        terminated: ``(b, f)`` bool, that step ended the episode.
        truncated: ``(b, f)`` bool, nobody looked further than that step.
        next_value: ``(b, f)``, value of frame t + 1.
        discount: per step, 0..1.
        trace: lambda, 0..1: 0 trusts the critic after one step, 1 only at the end of what was imagined.

    Returns:
        ``(b, f)``.
    """
    returns = torch.empty_like(reward)
    following = next_value[:, -1]
    for t in range(reward.shape[1] - 1, -1, -1):  # chosen, not multiplied by 0, which would let a NaN pass
        mixed = torch.where(truncated[:, t], next_value[:, t], next_value[:, t].lerp(following, trace))
        following = reward[:, t] + torch.where(terminated[:, t], 0.0, discount * mixed)
        returns[:, t] = following
    return returns


class ReturnRange:
    """How far returns are spread: a moving average of the range between two percentiles.

    Advantages are divided by it where it exceeds ``floor``, so that a weight of the entropy means the same
    whatever rewards are worth; small returns are not blown up (DreamerV3, "Actor learning").

    Args:
        decay: of the average.
        floor: smallest divisor.
        low: percentile, 0..1.
        high: percentile, 0..1.

    Attributes:
        value: the average, or None before the first returns.
    """

    def __init__(
        self, decay: float = 0.99, floor: float = 1.0, low: float = 0.05, high: float = 0.95
    ) -> None:
        self.decay, self.floor, self.low, self.high = decay, floor, low, high
        self.value: torch.Tensor | None = None

    def update(self, returns: torch.Tensor) -> torch.Tensor:
        """Take in returns ``(n,)``; gives the divisor, a tensor without axes on their device."""
        ends = torch.tensor([self.low, self.high], device=returns.device, dtype=returns.dtype)
        low, high = returns.quantile(ends)
        before = self.value
        self.value = high - low if before is None else torch.lerp(high - low, before, self.decay)
        return self.value.clamp(min=self.floor)
