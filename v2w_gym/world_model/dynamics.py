"""The dynamics in latent space: a state and an action give the next state. All that imagines calls this."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from v2w_gym.world_model.actions import shift
from v2w_gym.world_model.diffusion import Diffusion, ScheduleConfig
from v2w_gym.world_model.sampler import Request, Sampler, SamplerConfig
from v2w_gym.world_model.state import WorldState, empty_cache
from v2w_gym.world_model.unet import VideoUNet


class LatentDynamics:
    """``init`` and ``step`` over a ``WorldState``, on latents; it trusts its inputs.

    Args:
        unet: the denoising network; must be causal and read actions.
        schedule: noise schedule.
        sampler: how a frame is sampled.

    Raises:
        ValueError: a network that is not causal or reads no actions.
    """

    def __init__(
        self, unet: VideoUNet, schedule: ScheduleConfig | None = None, sampler: SamplerConfig | None = None
    ) -> None:
        if not unet.config.causal or not unet.config.action_dim:
            raise ValueError("a world model needs a causal network with actions; see `v2w train finetune`")
        self.unet, self.window = unet, int(unet.config.window)
        self.diffusion = Diffusion(schedule)
        self.sampler = Sampler(unet, self.diffusion, sampler or SamplerConfig())

    @torch.no_grad()
    def init(self, latents: torch.Tensor, actions: torch.Tensor, seeds: Sequence[int]) -> WorldState:
        """Begin episodes from context: ``(b, f, c, h, w)``, ``(b, f-1, a)`` and one integer per slot."""
        leading = shift(actions)
        state = self._begin(latents[:, 0], leading[:, 0], seeds)
        for i in range(1, latents.shape[1]):
            self.sampler.remember(self._request(state, leading[:, i]), state.cache)
            self._append(state, latents[:, i], leading[:, i])
        return state

    @torch.no_grad()
    def step(self, state: WorldState, action: torch.Tensor) -> WorldState:
        """Imagine one frame more from the action ``(b, a)``; ``state`` is left as it was."""
        after: WorldState = state.clone()  # type: ignore[attr-defined]  # tensorclass adds it
        self._append(after, self.sampler.denoise(self._request(after, action), after.cache), action)
        return after

    def put_right(self, state: WorldState, latent: torch.Tensor) -> None:
        """Make ``latent`` ``(b, c, h, w)`` the newest frame of ``state``, in place."""
        rows = torch.arange(len(latent), device=latent.device)
        state.latents[rows, state.frame_index % self.window] = latent
        state.latent = latent

    def _begin(self, first: torch.Tensor, action: torch.Tensor, seeds: Sequence[int]) -> WorldState:
        batch, (c, h, w), device = len(first), first.shape[1:], first.device
        state = WorldState(
            latent=first,
            first=first.clone(),
            frame_index=torch.full((batch,), -1, device=device),
            seed=torch.tensor(np.asarray(seeds, dtype=np.int64), device=device),
            latents=torch.zeros(batch, self.window, c, h, w, device=device),
            actions=torch.zeros(batch, self.window, action.shape[-1], device=device),
            cache=empty_cache(self.unet, batch, h, w, device),
            batch_size=[batch],  # type: ignore[call-arg]  # tensorclass adds it
        )
        self._append(state, first, action)
        return state

    def _request(self, state: WorldState, action: torch.Tensor) -> Request:
        rows = torch.arange(len(action), device=action.device)
        led = state.actions[rows, state.frame_index % self.window]
        actions = torch.stack([led, action], dim=1)
        return Request(state.seed.tolist(), state.frame_index, state.latent, actions, state.first)

    def _append(self, state: WorldState, latent: torch.Tensor, action: torch.Tensor) -> None:
        state.frame_index = state.frame_index + 1
        rows = torch.arange(len(latent), device=latent.device)
        state.actions[rows, state.frame_index % self.window] = action
        self.put_right(state, latent)
