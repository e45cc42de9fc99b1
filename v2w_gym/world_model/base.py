"""What the rest of the package asks of a world model. Anything with these members plugs in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from v2w_gym.shapes import FramesLike


class State(Protocol):
    """A batch of imagined episodes as a value: index it, repeat it, stack it, assign into it by mask.

    Attributes:
        latent: ``(b, c, h, w)`` float, the newest frame.
        frame_index: ``(b,)`` int64, index of the newest frame within its episode (context included).
    """

    latent: torch.Tensor
    frame_index: torch.Tensor

    def __getitem__(self, index: Any) -> Any: ...
    def __setitem__(self, index: Any, value: Any) -> None: ...
    def clone(self) -> Any:
        """A copy that shares nothing."""
        ...


class Believer(Protocol):
    """Says how far imagined frames can be believed; made for one world model and of no use to another.

    Attributes:
        credible_from: mean credibility below which nothing should be concluded from an episode.
    """

    @property
    def credible_from(self) -> float:
        """Mean credibility below which nothing should be concluded from an episode."""
        ...

    def credibility(self, state: Any, steps: Any) -> torch.Tensor:
        """How far the newest frame of each slot can be believed.

        Args:
            state: of the world model.
            steps: ``(b,)`` int64 array or tensor, how many frames were imagined since the given ones.

        Returns:
            ``(b,)`` float32 in 0..1, a function of the arguments alone, row by row.
        """
        ...


class WorldModel(Protocol):
    """Three pure functions and five facts.

    Attributes:
        frame_size: ``(h, w)`` in pixels.
        action_dim: number of action components.
        window: how many past frames the temporal layers see.
        device: where states live.
        hash: written into every ledger line.
    """

    frame_size: tuple[int, int]
    action_dim: int
    window: int

    @property
    def device(self) -> torch.device:
        """Where states live."""
        ...

    @property
    def hash(self) -> str:
        """Names the weights and the sampler."""
        ...

    def init(self, frames: FramesLike, actions: Any, seeds: Sequence[int]) -> Any:
        """Encode context: frames ``(b, f, h, w, 3)`` uint8, actions ``(b, f-1, a)``, noise seed per slot."""
        ...

    def step(self, state: Any, action: Any) -> Any:
        """Return the state one frame later; ``action`` is ``(b, a)``. The given state is left as it was."""
        ...

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Turn latents ``(b, c, h, w)`` into frames ``(b, h, w, 3)`` uint8."""
        ...
