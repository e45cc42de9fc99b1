"""Denoise the next frame: noise levels, guidance, and the pass that puts a finished frame in the cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import TensorDict

from v2w_gym.world_model.diffusion import Diffusion, guide, trailing_timesteps
from v2w_gym.world_model.noise import noise
from v2w_gym.world_model.timeline import Stepping
from v2w_gym.world_model.unet import VideoUNet


@dataclass(frozen=True)
class SamplerConfig:
    """How a frame is sampled.

    Attributes:
        steps: denoising steps per frame.
        guidance_scale: s of causal action guidance; 1.0 means none and costs half.
        history_level: noise level at which finished frames enter the history; -1 enters them clean, as level
            0.
        eta: 0 is deterministic given the first noise; 1 adds fresh noise at every step.
        precision: "fp32", or "bf16" for half the time at a small error.
    """

    steps: int = 2
    guidance_scale: float = 1.0
    history_level: int = -1
    eta: float = 0.0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"sampler.steps must be at least 1, got {self.steps}")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f'sampler.precision must be "fp32" or "bf16", got {self.precision!r}')
        if not -1 <= self.history_level < 1000:
            raise ValueError(f"sampler.history_level must lie in -1..999, got {self.history_level}")


@dataclass(frozen=True)
class Request:
    """The next frame of every slot, to be denoised.

    Attributes:
        seeds: noise key per slot.
        frame_index: ``(b,)`` int64, index of the newest frame that there is; the next one is to be made.
        newest: ``(b, c, h, w)``, that frame.
        actions: ``(b, 2, a)``, the action that led to it and the one that leads to the next.
        first: ``(b, c, h, w)``, first frame of the episode.
    """

    seeds: list[int]
    frame_index: torch.Tensor
    newest: torch.Tensor
    actions: torch.Tensor
    first: torch.Tensor


class Sampler:
    """Runs the network on the newest frame and its successor against a cache of the older ones.

    The newest frame enters the cache in the same pass that takes its successor's first denoising step: a
    frame costs as many passes as it has denoising steps, not one more.
    """

    def __init__(self, unet: VideoUNet, diffusion: Diffusion, config: SamplerConfig) -> None:
        self.unet, self.diffusion, self.config = unet, diffusion, config
        self.levels = trailing_timesteps(config.steps, diffusion.config.num_train_timesteps)

    def denoise(self, request: Request, cache: TensorDict) -> torch.Tensor:
        """The next frame ``(b, c, h, w)``; ``cache`` then holds what later ones read of the newest."""
        z = self._noise(request, request.frame_index + 1, "frame")
        for i, (now, then) in enumerate(zip(self.levels, [*self.levels[1:], -1], strict=True)):
            if i == 0:
                past, level = self._history(request)
                v = self._predict(torch.cat([past, z], 1), [level, now], request, cache, keep=1)[:, 1:]
            else:
                v = self._predict(z, [now], request, cache)
            if self.config.guidance_scale != 1.0:
                free = self._predict(z, [now], request, cache, action=False)
                v = guide(v, free, self.config.guidance_scale)
            fresh = None
            if self.config.eta > 0:
                fresh = self._noise(request, request.frame_index + 1, "step", i)
            here = torch.full((len(z), 1), now, device=z.device)
            z = self.diffusion.ddim(z, v, here, torch.full_like(here, then), self.config.eta, fresh)
        return z[:, 0]

    def remember(self, request: Request, cache: TensorDict) -> None:
        """Put the newest frame in ``cache`` without making another."""
        past, level = self._history(request)
        self._predict(past, [level], request, cache, keep=1)

    def _history(self, request: Request) -> tuple[torch.Tensor, int]:
        """The newest frame as the cache takes it, ``(b, 1, c, h, w)``, and its noise level."""
        level, x = max(self.config.history_level, 0), request.newest.unsqueeze(1)
        if self.config.history_level >= 0:
            at = self.diffusion.at(torch.full((len(x), 1), level, device=x.device))
            x = at.noisy(x, self._noise(request, request.frame_index, "history"))
        return x, level

    def _noise(self, request: Request, index: torch.Tensor, stream: str, step: int = 0) -> torch.Tensor:
        drawn = noise(request.seeds, index.tolist(), stream, request.first.shape[1:], step)
        return drawn.unsqueeze(1).to(request.first.device)

    def _predict(
        self,
        z: torch.Tensor,
        levels: list[int],
        request: Request,
        cache: TensorDict,
        *,
        keep: int = 0,
        action: bool = True,
    ) -> torch.Tensor:
        """``v`` of the frames ``z`` ``(b, f, c, h, w)``: the newest if it is kept, the next, or both."""
        begin = 0 if keep else 1
        rows = slice(begin, begin + z.shape[1])
        index = (request.frame_index[:, None] + torch.arange(2, device=z.device))[:, rows]
        level = torch.tensor(levels, device=z.device).expand(len(z), -1)
        mask = None if action else torch.zeros_like(index, dtype=torch.bool)
        time = Stepping(cache, index, keep)
        with torch.autocast(z.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"):
            v: torch.Tensor = self.unet(z, level, request.actions[:, rows], mask, request.first, time)
        return v.float()
