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
        frame_index: ``(b,)`` int64, index of the frame to make.
        actions: ``(b, a)``, the action that leads to it.
        first: ``(b, c, h, w)``, first frame of the episode.
    """

    seeds: list[int]
    frame_index: torch.Tensor
    actions: torch.Tensor
    first: torch.Tensor


class Sampler:
    """Runs the network on one new frame per slot against a cache."""

    def __init__(self, unet: VideoUNet, diffusion: Diffusion, config: SamplerConfig) -> None:
        self.unet, self.diffusion, self.config = unet, diffusion, config
        self.levels = trailing_timesteps(config.steps, diffusion.config.num_train_timesteps)

    def denoise(self, request: Request, cache: TensorDict) -> torch.Tensor:
        """Sample the frame: ``(b, c, h, w)``. Of ``cache`` only places outside the past are written."""
        z = self._noise(request, "frame")
        for i, (now, then) in enumerate(zip(self.levels, [*self.levels[1:], -1], strict=True)):
            v = self._predict(z, now, request, cache, kept=True)
            if self.config.guidance_scale != 1.0:
                free = self._predict(z, now, request, cache, kept=False)
                v = guide(v, free, self.config.guidance_scale)
            fresh = self._noise(request, "step", i) if self.config.eta > 0 else None
            here = torch.full((len(z), 1), now, device=z.device)
            z = self.diffusion.ddim(z, v, here, torch.full_like(here, then), self.config.eta, fresh)
        return z[:, 0]

    def commit(self, latent: torch.Tensor, request: Request, cache: TensorDict) -> None:
        """Run the finished frame ``(b, c, h, w)`` once more and leave in ``cache`` what later frames read."""
        level, x = max(self.config.history_level, 0), latent.unsqueeze(1)
        if self.config.history_level >= 0:
            at = self.diffusion.at(torch.full((len(x), 1), level, device=x.device))
            x = at.noisy(x, self._noise(request, "history"))
        self._predict(x, level, request, cache, kept=True, commit=True)

    def _noise(self, request: Request, stream: str, step: int = 0) -> torch.Tensor:
        shape = request.first.shape[1:]
        drawn = noise(request.seeds, request.frame_index.tolist(), stream, shape, step)
        return drawn.unsqueeze(1).to(request.first.device)

    def _predict(
        self,
        z: torch.Tensor,
        level: int,
        request: Request,
        cache: TensorDict,
        *,
        kept: bool,
        commit: bool = False,
    ) -> torch.Tensor:
        levels = torch.full((len(z), 1), level, device=z.device)
        mask = None if kept else torch.zeros(len(z), 1, dtype=torch.bool, device=z.device)
        time = Stepping(cache, request.frame_index, commit)
        with torch.autocast(z.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"):
            v: torch.Tensor = self.unet(z, levels, request.actions.unsqueeze(1), mask, request.first, time)
        return v.float()
