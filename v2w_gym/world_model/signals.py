"""What a state tells, nearly for free, of how well it may be imagined.

Nothing here runs the network again. It denoises in few steps, often in one, so a second sample of the
noise would double the cost of a step; see ``docs/credibility.md`` for how little it would add.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_FLOOR = 1e-4  # of a mean square, before its logarithm
_FAR = 10.0  # deviations; further out is out


class Signals(nn.Module):
    """Numbers read off a state; distances are measured in the principal axes of latents of recorded frames.

    The leading axes tell where the hand and the objects are, the others whether the picture is one of this
    scene at all: every recorded frame lies near zero there.

    Args:
        size: numbers in a latent.
        axes: principal axes that are kept.
        leading: how many of them count as leading.
        actions: components of an action.
    """

    def __init__(self, size: int, axes: int, leading: int, actions: int) -> None:
        super().__init__()
        self.leading = leading
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("axes", torch.zeros(axes, size))  # divided by the deviation along each
        self.centre: torch.Tensor
        self.axes: torch.Tensor
        self.look_count = axes + len(self._bands(torch.zeros(1, axes))[0])
        self.action_dim = actions
        self.signal_count = 2 + 2 * actions + len(self._bands(torch.zeros(1, axes))[0])

    @staticmethod
    def along(latents: torch.Tensor, leading: int, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Centre and axes of recorded latents ``(n, ...)``: ``(size,)`` and ``(axes, size)``.

        Raises:
            ValueError: too few latents to tell where they do not go.
        """
        flat = latents.flatten(1).double()
        axes = min(most, flat.shape[1], len(flat) - 1)
        if axes < 2 * leading:
            raise ValueError(f"{len(flat)} recorded frames are too few for {2 * leading} axes; record more")
        centre = flat.mean(dim=0)
        _, lengths, turned = torch.linalg.svd(flat - centre, full_matrices=False)
        deviation = lengths[:axes] / len(flat) ** 0.5
        least = 1e-3 * deviation[0]  # what recordings never do must not count beyond all measure
        return centre.float(), (turned[:axes] / deviation.clamp(min=least)[:, None]).float()

    def places(self, latents: torch.Tensor) -> torch.Tensor:
        """``(n, axes)``, latents ``(n, c, h, w)`` in the axes, in deviations."""
        return (latents.flatten(1) - self.centre) @ self.axes.T

    def _bands(self, places: torch.Tensor) -> torch.Tensor:
        """``(n, 3)``, how far out along the leading axes, the next ones, and all that are not leading."""
        k = self.leading
        parts = (places[:, :k], places[:, k : 2 * k], places[:, k:])
        return torch.stack([part.square().mean(dim=1).clamp(min=_FLOOR).log() for part in parts], dim=1)

    def look(self, latents: torch.Tensor) -> torch.Tensor:
        """``(n, look_count)``, what a picture looks like, for latents ``(n, c, h, w)``."""
        places = self.places(latents)
        return torch.cat([places.clamp(-_FAR, _FAR), self._bands(places)], dim=1)

    def forward(self, state: Any, steps: torch.Tensor) -> torch.Tensor:
        """``(b, signal_count)``, what the newest frames are made from.

        Args:
            state: as ``state.WorldState``.
            steps: ``(b,)`` int64, how many frames were imagined since the given ones.
        """
        window = state.latents.shape[1]
        rows, places = (
            torch.arange(len(steps), device=steps.device),
            torch.arange(window, device=steps.device),
        )
        before = (state.frame_index - 1).clamp(min=0) % window
        moved = (state.latent - state.latents[rows, before]).flatten(1).square().mean(dim=1)
        age = (state.frame_index[:, None] - places) % window
        imagined = age < steps[:, None]  # actions that led to given frames did no harm
        actions = state.actions[..., : self.action_dim] * imagined[..., None]
        return torch.cat(
            [
                self._bands(self.places(state.latent)),
                torch.stack([moved.clamp(min=_FLOOR).log(), steps / window], dim=1),
                actions.mean(dim=1),
                actions.abs().mean(dim=1),
            ],
            dim=1,
        )
