"""What a frame is worth: a distribution over returns, and its slow copy."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from v2w_gym.policies.actor import LatentTrunk
from v2w_gym.training.imagination.returns import symexp


@dataclass(frozen=True)
class CriticConfig:
    """Sizes of the critic.

    Attributes:
        channels: width of the two convolutions.
        squeeze: channels that are left when space is flattened.
        hidden: width of the last layer but one.
        bins: how many returns it weighs, evenly spread in symlog from -reach to reach; odd, so that 0 is one.
        reach: symlog of the largest return; what lies beyond counts as that. 3 stands for 19.
        slow: decay of the moving average whose values returns are made from.
    """

    channels: tuple[int, ...] = (32, 48)
    squeeze: int = 12
    hidden: int = 96
    bins: int = 63
    reach: float = 3.0
    slow: float = 0.98

    def __post_init__(self) -> None:
        if self.bins < 3 or self.bins % 2 == 0 or self.reach <= 0:
            raise ValueError(
                f"a critic needs an odd number of bins from 3 on and a reach above 0, "
                f"got {self.bins} and {self.reach:g}"
            )


class Critic(nn.Module):
    """Weighs returns that lie close together near zero and far apart elsewhere (arXiv 2301.04104, "Robust
    predictions").

    Args:
        shape: ``(c, h, w)`` of a latent.
        config: sizes.
    """

    def __init__(self, shape: tuple[int, ...], config: CriticConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CriticConfig()
        self.trunk = LatentTrunk(shape, config.channels, config.squeeze, config.hidden)
        self.head = nn.Linear(config.hidden, config.bins)
        nn.init.zeros_(
            self.head.weight
        )  # so the first values are 0, and rewards alone make the first returns
        nn.init.zeros_(self.head.bias)
        upper = symexp(torch.linspace(0.0, config.reach, config.bins // 2 + 1))
        self.register_buffer("places", torch.cat([-upper[1:].flip(0), upper]), persistent=False)
        self.places: torch.Tensor

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, bins)`` for latents ``(n, c, h, w)``."""
        logits: torch.Tensor = self.head(self.trunk(latents))
        return logits

    def value(self, latents: torch.Tensor) -> torch.Tensor:
        """Expected return ``(n,)``. Bins of opposite sign are paired, so that their large numbers cancel."""
        weight, half = self(latents).softmax(dim=-1), self.config.bins // 2
        values: torch.Tensor = (weight[:, half + 1 :] - weight[:, :half].flip(-1)) @ self.places[half + 1 :]
        return values

    def loss(self, latents: torch.Tensor, returns: torch.Tensor) -> torch.Tensor:
        """Cross entropy ``(n,)`` with the two bins around each of the returns ``(n,)``."""
        return F.cross_entropy(self(latents), self.two_hot(returns), reduction="none")

    def two_hot(self, returns: torch.Tensor) -> torch.Tensor:
        """Weights ``(n, bins)`` on the two nearest bins whose mean is the return."""
        places = self.places
        inside = returns.clamp(places[0], places[-1])
        above = torch.searchsorted(places, inside.contiguous()).clamp(1, len(places) - 1)
        below = above - 1
        share = (inside - places[below]) / (places[above] - places[below])
        weights = torch.zeros(len(returns), len(places), device=returns.device, dtype=returns.dtype)
        weights.scatter_(1, below[:, None], (1.0 - share)[:, None])
        return weights.scatter_(1, above[:, None], share[:, None])


class SlowCritic:
    """A moving average of a critic, which returns are made from: a target that does not run away.

    Args:
        critic: the one that learns.
    """

    def __init__(self, critic: Critic) -> None:
        self.critic = copy.deepcopy(critic).requires_grad_(False)

    @torch.no_grad()
    def follow(self, critic: Critic) -> None:
        """Take a step towards the critic that learns."""
        mine, other = ([p.detach() for p in c.parameters()] for c in (self.critic, critic))
        torch._foreach_lerp_(mine, other, 1.0 - self.critic.config.slow)

    @torch.no_grad()
    def values(self, latents: torch.Tensor) -> torch.Tensor:
        """Values ``(b, f)`` of latents ``(b, f, c, h, w)``."""
        values: torch.Tensor = self.critic.value(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])
        return values
