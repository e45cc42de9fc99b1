"""History as a cache: every finished frame passes through the network once.

The newest frame enters the cache in the same pass that takes its successor's first denoising step: a frame
costs as many passes as it has denoising steps, not one more.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from tensordict import TensorDict

from v2w_gym.world_model.network import Network
from v2w_gym.world_model.sampler import Sampler
from v2w_gym.world_model.state import WorldState, empty_cache
from v2w_gym.world_model.timeline import Stepping


class _Row(NamedTuple):
    """One frame of every slot in a pass.

    Attributes:
        latent: ``(b, 1, c, h, w)``.
        level: its noise level.
        action: ``(b, a + k)``, what leads to it.
        kept: whether the network reads the action.
    """

    latent: torch.Tensor
    level: int
    action: torch.Tensor
    kept: bool


class Stream:
    """Predicts from the cache in ``state.cache``.

    Args:
        network: with statistics per frame.
        sampler: how a frame is sampled.
    """

    def __init__(self, network: Network, sampler: Sampler) -> None:
        if network.unet.config.temporal_norm != "frame":
            raise ValueError(
                'sampler.history "stream" needs a network with temporal_norm "frame"; this one pools its '
                'statistics over all frames of a pass: use sampler.history "recompute"'
            )
        self.network, self.sampler = network, sampler

    def empty(self, first: torch.Tensor) -> TensorDict:
        """The cache of episodes that begin with ``first`` ``(b, c, h, w)``."""
        height, width = first.shape[-2:]
        return empty_cache(self.network.unet, len(first), height, width, first.device)

    def remember(self, state: WorldState) -> None:
        """Put the newest frame in the cache without making another; in place."""
        self._pass(state, self._newest(state), [])

    def imagine(self, state: WorldState, action: torch.Tensor) -> torch.Tensor:
        """The next frame ``(b, c, h, w)``, to which ``action`` ``(b, a + k)`` leads.

        The cache then holds what later ones read of the newest.
        """
        waiting = self._newest(state)

        def predict(z: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor | None]:
            nonlocal waiting
            finished, waiting = waiting, []
            branches = [_Row(z, level, action, kept) for kept in (True, False)[: 1 + self.sampler.guided]]
            v = self._pass(state, finished, branches)
            return v[:, :1], v[:, 1:] if self.sampler.guided else None

        return self.sampler.denoise(predict, state.latent, state.seed, state.frame_index + 1)

    def _newest(self, state: WorldState) -> list[_Row]:
        index = state.frame_index[:, None]
        newest, level = self.sampler.blurred(state.latent[:, None], state.seed, index)
        return [_Row(newest, level, state.led, True)]

    def _pass(self, state: WorldState, finished: list[_Row], candidates: list[_Row]) -> torch.Tensor:
        """``v`` of the candidates for the next frame; ``finished``, the newest frame, enters the cache."""
        rows, device = finished + candidates, state.latent.device
        levels = torch.tensor([row.level for row in rows], device=device)
        kept = torch.tensor([row.kept for row in rows], device=device)
        ahead = torch.arange(len(rows), device=device) >= len(finished)
        tokens = None
        if "given" in state.context:
            tokens = torch.stack([state.context["given" if row.kept else "free"] for row in rows], dim=1)
        v = self.network(
            torch.cat([row.latent for row in rows], dim=1),
            levels.expand(len(state.seed), -1),
            torch.stack([row.action for row in rows], dim=1),
            kept.expand(len(state.seed), -1),
            state.first,
            Stepping(state.cache, state.frame_index[:, None] + ahead, len(finished)),
            tokens,
        )
        return v[:, len(finished) :]
