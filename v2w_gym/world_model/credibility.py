"""How far an imagined frame can be believed, from what the state shows: ``credibility/`` of a world folder.

Credibility is the product of two probabilities. *Familiar*: the first frame of the episode shows the
scene that the world model was trained on. *Right*: a frame imagined from actions and latents like these lies
within a stated distance of the frame that reality would have shown. Both are learned from recordings by
``training.credibility``; the network itself has no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from v2w_gym.config import from_dict, to_dict
from v2w_gym.weights import fill_strictly, find_folder, read_weights, write_folder
from v2w_gym.world_model.signals import Signals

_OUT = 5.0  # deviations beyond which a signal counts no further
_STEEP = 4.0  # of the limit, per unit of log distance


@dataclass(frozen=True)
class CredibilityConfig:
    """Sizes, and what the numbers mean.

    Attributes:
        latent_shape: ``(c, h, w)`` of a latent.
        action_dim: components of an action.
        axes: principal axes of recorded latents that are kept.
        leading: how many of them tell what is where, and not whether the scene is the right one.
        hidden: width of the two small networks.
        tolerance: root mean square error, in grey levels of 0..255, up to which an imagined frame is right.
        slope: of the logistic that makes a probability of a predicted log error; fitted on episodes that
            nothing else was learned from.
        shift: of the same.
        credible_from: mean credibility below which nothing should be concluded from an episode.
        weights: hashes of the files that it was made for, by their path in the world.
    """

    latent_shape: tuple[int, ...]
    action_dim: int
    axes: int = 512
    leading: int = 64
    hidden: int = 64
    tolerance: float = 16.0
    slope: float = 1.0
    shift: float = 0.0
    credible_from: float = 0.5
    weights: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tolerance <= 0 or not 0 <= self.credible_from <= 1:
            raise ValueError(
                "credibility needs a tolerance above 0 and credible_from in 0..1, "
                f"got {self.tolerance} and {self.credible_from}"
            )


class Judge(nn.Module):
    """A small network on standardised numbers.

    Args:
        inputs: how many numbers.
        hidden: width.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.centre: torch.Tensor
        self.spread: torch.Tensor
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU())
        self.last = nn.Linear(hidden, 1)

    def standardise(self, x: torch.Tensor) -> None:
        """Take centre and spread from ``(n, inputs)``."""
        self.centre, self.spread = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(n,)`` for ``(n, inputs)``."""
        held = self.layers(((x - self.centre) / self.spread).clamp(-_OUT, _OUT))
        verdict: torch.Tensor = self.last(held)[:, 0]
        return verdict


class Credibility(nn.Module):
    """See :class:`~v2w_gym.world_model.base.Believer`.

    Args:
        config: sizes, and what the numbers mean.

    Attributes:
        signals: what is read off a state.
        familiar: logit that a picture, as ``signals.look`` sees it, is one of this scene.
        error: logarithm of the mean square error, in grey levels, that ``signals`` let expect.
        limit: how far off the leading axes a familiar picture may lie, whatever ``familiar`` makes of it: a
            network can be trusted about pictures like those that it was shown, and not about others.
    """

    def __init__(self, config: CredibilityConfig) -> None:
        super().__init__()
        self.config = config
        size = math.prod(config.latent_shape)
        self.signals = Signals(size, config.axes, config.leading, config.action_dim)
        self.familiar = Judge(self.signals.look_count, config.hidden)
        self.error = Judge(self.signals.signal_count, config.hidden)
        self.register_buffer("limit", torch.zeros(()))
        self.limit: torch.Tensor

    @property
    def credible_from(self) -> float:
        """Mean credibility below which nothing should be concluded from an episode."""
        return self.config.credible_from

    @torch.no_grad()
    def credibility(self, state: Any, steps: torch.Tensor) -> torch.Tensor:
        """See ``Believer``."""
        steps = torch.as_tensor(steps, device=state.latent.device)
        return self.familiarity(state.first) * self.rightness(self.error(self.signals(state, steps)))

    def familiarity(self, latents: torch.Tensor) -> torch.Tensor:
        """``(n,)`` probability that latents ``(n, c, h, w)`` show this scene."""
        look = self.signals.look(latents)
        return torch.sigmoid(self.familiar(look)) * torch.sigmoid(_STEEP * (self.limit - look[:, -1]))

    def rightness(self, log_error: torch.Tensor) -> torch.Tensor:
        """Probability that a frame with this expected log error lies within the tolerance."""
        margin = 2 * math.log(self.config.tolerance) - log_error
        return torch.sigmoid(self.config.slope * margin + self.config.shift)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``, in half precision, into ``folder``."""
        half = {name: value.half() for name, value in self.state_dict().items()}
        write_folder(folder, to_dict(self.config), half)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Credibility:
        """Read what :meth:`save_pretrained` wrote.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged or belongs to something else.
        """
        values, config, file = find_folder(folder, what="credibility", made_by="v2w credibility fit")
        made = cls(from_dict(CredibilityConfig, values, where=str(config)))
        return fill_strictly(made, read_weights(file)[0], file).eval()
