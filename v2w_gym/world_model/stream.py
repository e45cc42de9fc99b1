"""History as a cache: every finished frame passes through the network once.

The newest frame enters the cache in the same pass that takes its successor's first denoising step: a frame
costs as many passes as it has denoising steps, not one more.
"""

from __future__ import annotations

import torch
from tensordict import TensorDict

from v2w_gym.world_model.network import Network
from v2w_gym.world_model.sampler import Sampler
from v2w_gym.world_model.state import WorldState, empty_cache
from v2w_gym.world_model.timeline import Stepping


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
        self._pass(state, *self._newest(state), state.led[:, None], keep=1)

    def imagine(self, state: WorldState, action: torch.Tensor) -> torch.Tensor:
        """The next frame ``(b, c, h, w)``; the cache then holds what later ones read of the newest."""
        newest, history_level = self._newest(state)
        waiting = True

        def predict(z: torch.Tensor, level: int, with_action: bool) -> torch.Tensor:
            nonlocal waiting
            if waiting and with_action:
                waiting = False
                pair, led = torch.cat([newest, z], 1), torch.stack([state.led, action], dim=1)
                levels = torch.cat([history_level, torch.full_like(history_level, level)], 1)
                return self._pass(state, pair, levels, led, keep=1)[:, 1:]
            levels = torch.full_like(history_level, level)
            return self._pass(state, z, levels, action[:, None], keep=0, action=with_action)

        return self.sampler.denoise(predict, state.latent, state.seed.tolist(), state.frame_index + 1)

    def _newest(self, state: WorldState) -> tuple[torch.Tensor, torch.Tensor]:
        """The newest frame as the cache takes it, ``(b, 1, c, h, w)``, and its noise level ``(b, 1)``."""
        index = state.frame_index[:, None]
        newest, level = self.sampler.blurred(state.latent[:, None], state.seed.tolist(), index)
        return newest, torch.full_like(index, level)

    def _pass(
        self,
        state: WorldState,
        z: torch.Tensor,
        levels: torch.Tensor,
        actions: torch.Tensor,
        *,
        keep: int,
        action: bool = True,
    ) -> torch.Tensor:
        """``v`` of the frames ``z`` ``(b, f, c, h, w)``: the newest if it is kept, the next, or both."""
        begin = state.frame_index[:, None] + (0 if keep else 1)
        index = begin + torch.arange(z.shape[1], device=z.device)
        kept = None if action else torch.zeros_like(index, dtype=torch.bool)
        tokens = state.context.get("given" if action else "free", None)
        return self.network(z, levels, actions, kept, state.first, Stepping(state.cache, index, keep), tokens)
