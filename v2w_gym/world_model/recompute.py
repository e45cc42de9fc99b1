"""History as the public code reads it: all frames of the window pass through the network at every step.

Its network pools statistics over the frames of a pass, so a finished frame's features depend on the frame
being made, and nothing can be kept. Cost grows with the window: denoising steps x frames x guidance's two
passes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from tensordict import TensorDict

from v2w_gym.world_model.network import Network
from v2w_gym.world_model.sampler import Sampler
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.timeline import clip

Rebuild = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, TensorDict]]
"""``(latents, seeds, index)``, as ``Sampler.blurred`` takes them, to the latents of the same frames encoded
anew and the context that their first one gives."""


class Recompute:
    """Predicts from the ring ``state.latents``; keeps nothing else.

    Args:
        network: with any kind of statistics.
        sampler: how a frame is sampled.
        window: frames of a pass at most, the new one included.
        rebuild: once an episode is longer than the window, its frames are decoded and encoded again, and the
            oldest of them takes the first frame's place as what the network is conditioned on; None leaves
            out the trip to pixels and keeps the context.
    """

    def __init__(
        self, network: Network, sampler: Sampler, window: int, rebuild: Rebuild | None = None
    ) -> None:
        self.network, self.leading = network, network.unet.leading
        self.sampler, self.window, self.rebuild = sampler, window, rebuild

    def empty(self, first: torch.Tensor) -> TensorDict:
        """Nothing is cached."""
        return TensorDict({}, batch_size=[len(first)], device=first.device)

    def remember(self, state: WorldState) -> None:
        """The ring holds the newest frame already."""

    def imagine(self, state: WorldState, action: torch.Tensor) -> torch.Tensor:
        """The next frame ``(b, c, h, w)``, to which ``action`` ``(b, a + k)`` leads.

        Slots whose windows begin alike pass together.
        """
        made = torch.empty_like(state.latent)
        ages = (state.frame_index + 1).clamp(max=self.window)  # at the window, its beginning has been left
        for age in ages.unique().tolist():
            rows = torch.nonzero(ages == age)[:, 0]
            part = state if len(rows) == len(ages) else state[rows]  # type: ignore[index]
            made[rows] = self._imagine(part, action[rows], min(age, self.window - 1))
        return made

    def _imagine(self, state: WorldState, action: torch.Tensor, length: int) -> torch.Tensor:
        seeds, device = state.seed, action.device
        index = state.frame_index[:, None] + torch.arange(1 - length, 1, device=device)
        rows, places = torch.arange(len(seeds), device=device)[:, None], index % state.latents.shape[1]
        frames, led = state.latents[rows, places], state.actions[rows, places]
        first, context = state.first, state.context
        if int(index[0, 0]) > 0:  # the window has left the episode's beginning behind
            if self.rebuild is not None:
                frames, context = self.rebuild(frames, seeds, index)
            first = frames[:, 0]
        past, history_level = self.sampler.blurred(frames, seeds, index)
        actions = self.leading.since(torch.cat([led, action[:, None]], dim=1))
        axis = clip(length + 1, self.window).to(device)
        branches = ("given", "free") if self.sampler.guided else ("given",)  # side by side in one pass
        levels = torch.full((len(seeds), length + 1), history_level, device=device)
        kept = torch.ones((len(branches), *levels.shape), dtype=torch.bool, device=device)
        kept[1:, :, -1] = False
        tokens = torch.cat([context[branch] for branch in branches]) if "given" in context else None

        def twice(x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x] * len(branches))

        def predict(z: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor | None]:
            levels[:, -1] = level
            frames = torch.cat([past, z], dim=1)
            given = twice(frames), twice(levels), twice(actions), kept.flatten(0, 1), twice(first)
            v, *free = self.network(*given, axis, tokens).chunk(len(branches))
            return v, free[0] if free else None

        return self.sampler.denoise(predict, state.latent, seeds, state.frame_index + 1)
