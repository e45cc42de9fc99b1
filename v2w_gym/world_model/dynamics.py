"""The dynamics in latent space: a state and an action give the next state. All that imagines calls this."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from tensordict import TensorDict

from v2w_gym.world_model.diffusion import Diffusion, ScheduleConfig
from v2w_gym.world_model.network import Network
from v2w_gym.world_model.noise import noise
from v2w_gym.world_model.recompute import Rebuild, Recompute
from v2w_gym.world_model.room import Room
from v2w_gym.world_model.sampler import Noise, Sampler, SamplerConfig
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.stream import Stream
from v2w_gym.world_model.unet import VideoUNet


class LatentDynamics:
    """``init`` and ``step`` over a ``WorldState``, on latents; it trusts its inputs.

    Args:
        unet: the denoising network; must be causal and read actions.
        schedule: noise schedule.
        sampler: how a frame is sampled.
        rebuild: see ``Recompute``.
        source: where noise comes from.

    Attributes:
        room: how many slots it steps at once.

    Raises:
        ValueError: a network that is not causal or reads no actions, or that ``sampler`` does not fit.
    """

    def __init__(
        self,
        unet: VideoUNet,
        schedule: ScheduleConfig | None = None,
        sampler: SamplerConfig | None = None,
        rebuild: Rebuild | None = None,
        source: Noise = noise,
    ) -> None:
        if not unet.config.causal or not unet.config.action_dim:
            raise ValueError("a world model needs a causal network with actions; see `v2w train finetune`")
        config, longest = sampler or SamplerConfig(), int(unet.config.window)
        if config.window is not None and config.window > longest:
            raise ValueError(f"sampler.window must be at most the network's {longest}, got {config.window}")
        self.unet, self.window = unet, config.window or longest
        self.diffusion = Diffusion(schedule)
        self.sampler = Sampler(self.diffusion, config, source)
        self.history = self._history(Network(unet, config.precision, config.compile), self.sampler, rebuild)
        self.room = Room(unet, self._one_pass, self._frames_read)

    def _history(self, network: Network, sampler: Sampler, rebuild: Rebuild | None) -> Stream | Recompute:
        if sampler.config.history == "stream":
            return Stream(network, sampler)
        return Recompute(network, sampler, self.window, rebuild)

    def _one_pass(self, slot: WorldState) -> object:
        """See ``Room``. Pixels are left out: the codec sees to its own memory."""
        config = dataclasses.replace(self.sampler.config, steps=1)
        network, sampler = Network(self.unet, config.precision), Sampler(self.diffusion, config)
        return self._history(network, sampler, None).imagine(slot, torch.zeros_like(slot.actions[:, 0]))

    def _frames_read(self, state: WorldState) -> int:
        """See ``Room``."""
        if self.sampler.config.history == "stream":
            return 0
        return min(int(state.frame_index.max()) + 1, self.window - 1)

    @torch.no_grad()
    def init(
        self,
        latents: torch.Tensor,
        actions: torch.Tensor,
        seeds: Sequence[int],
        context: TensorDict | None = None,
    ) -> WorldState:
        """Begin episodes.

        Args:
            latents: ``(b, f, c, h, w)``, the frames that are given.
            actions: ``(b, f-1, a)``.
            seeds: one integer per slot.
            context: ``WorldState.context``, where the network reads any.

        Raises:
            MemoryError: not even one slot at a time passes through the network.
        """
        led = self.unet.leading.along(actions)
        if context is None:
            context = TensorDict({}, batch_size=[len(latents)], device=latents.device)
        state = self._begin(latents[:, 0], led[:, 0], seeds, context)
        at_once = self.room.at_once(state, copies=0) if latents.shape[1] > 1 else 0
        for i in range(1, latents.shape[1]):
            self.room.run(state, at_once, lambda part: self.history.remember(_slots(state, part)))
            self._append(state, latents[:, i], led[:, i])
        return state

    @torch.no_grad()
    def step(self, state: WorldState, action: torch.Tensor) -> WorldState:
        """Imagine one frame more from the action ``(b, a)``; ``state`` is left as it was.

        A batch that does not fit into memory at once runs in parts, with a warning.

        Raises:
            MemoryError: not even one slot at a time fits, beside the new state.
        """
        at_once = self.room.at_once(state)
        after: WorldState = state.clone()  # type: ignore[attr-defined]  # tensorclass adds it
        made, led = torch.empty_like(after.latent), self.unet.leading.after(state.led, action)

        def imagine(part: slice) -> None:
            made[part] = self.history.imagine(_slots(after, part), led[part])

        def undo(part: slice) -> None:
            after[part] = state[part]  # type: ignore[index]

        self.room.run(state, at_once, imagine, undo)
        self._append(after, made, led)
        return after

    def put_right(self, state: WorldState, latent: torch.Tensor) -> None:
        """Make ``latent`` ``(b, c, h, w)`` the newest frame of ``state``, in place."""
        rows = torch.arange(len(latent), device=latent.device)
        state.latents[rows, state.frame_index % state.latents.shape[1]] = latent
        state.latent = latent

    def _begin(
        self, first: torch.Tensor, led: torch.Tensor, seeds: Sequence[int], context: TensorDict
    ) -> WorldState:
        batch, (c, h, w), device = len(first), first.shape[1:], first.device
        ring = int(self.unet.config.window)
        state = WorldState(
            latent=first,
            first=first.clone(),
            frame_index=torch.full((batch,), -1, device=device),
            seed=torch.tensor(np.asarray(seeds, dtype=np.int64), device=device),
            latents=torch.zeros(batch, ring, c, h, w, device=device),
            actions=torch.zeros(batch, ring, led.shape[-1], device=device),
            cache=self.history.empty(first),
            context=context,
            batch_size=[batch],  # type: ignore[call-arg]  # tensorclass adds it
        )
        self._append(state, first, led)
        return state

    def _append(self, state: WorldState, latent: torch.Tensor, led: torch.Tensor) -> None:
        state.frame_index = state.frame_index + 1
        rows = torch.arange(len(latent), device=latent.device)
        state.actions[rows, state.frame_index % state.actions.shape[1]] = led
        self.put_right(state, latent)


def _slots(state: WorldState, part: slice) -> WorldState:
    """A part of ``state`` that shares its memory."""
    whole = part.stop - part.start == len(state.seed)
    return state if whole else state[part]  # type: ignore[index]
