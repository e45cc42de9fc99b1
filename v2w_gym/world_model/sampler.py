"""Denoise the next frame: noise levels, guidance, the chain of updates. What a frame is predicted from is a
matter of the history: ``stream.py`` or ``recompute.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from v2w_gym.world_model.diffusion import Diffusion, guide, match_deviation, trailing_timesteps
from v2w_gym.world_model.halves import Precision
from v2w_gym.world_model.noise import noise

Predict = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor | None]]
"""``(z, level)`` to ``v`` of the next frame ``z`` ``(b, 1, c, h, w)`` at that noise level, with its action
and, where ``Sampler.guided``, without. Both may give ``v`` of frames before, and last of the next one."""

Noise = Callable[[torch.Tensor, torch.Tensor, str, Sequence[int], int], torch.Tensor]
"""See ``noise.noise``."""


@dataclass(frozen=True)
class SamplerConfig:
    """How a frame is sampled.

    The defaults are those of the worlds that are trained here. The released models' presets are what their
    public code does; where their paper says otherwise, its value is given here in brackets.

    Attributes:
        steps: denoising steps per frame. Released: 50.
        guidance_scale: s of causal action guidance; 1.0 means none and costs half. Released: 2.5 (3.5).
        guidance_rescale: how far a guided prediction gets the standard deviation of the unguided one back
            (Lin et al., arXiv 2305.08891, section 3.4), 0..1. Released: 0.7 (not mentioned).
        history: "stream" reads finished frames from a cache of their features, at a cost that does not grow;
            exact for networks with statistics per frame, which a network with others is made into, a
            deviation. "recompute" runs all frames of the window through the network at every step. Released:
            "recompute".
        history_level: noise level at which finished frames enter the history; -1 enters them clean, as level
            0; "penultimate" takes the second lowest level of the denoising steps. Released: "penultimate",
            which is 39 at 50 steps (20).
        eta: 0 is deterministic given the first noise; 1 adds fresh noise at every step. Released: 1.0 (DDIM,
            so 0.0).
        first_noise: "independent" draws the noise that a frame begins from anew for each. "antithetic" draws
            it for every second frame, and the one after begins from its opposite: each is unit normal as
            before, but what one frame strays by chance the next takes back (antithetic variates, Hammersley
            and Morton, 1956, along an episode). Released: "independent".
        last_level: where the denoising ends, -1 at no noise at all, or level 0. Released: 0.
        window: frames that a pass sees at most with "recompute", the new one included; what is older is
            forgotten. None takes the network's.
        sample_posterior: whether encoding a frame draws from what the codec thinks possible, or takes the
            likeliest. Released: true.
        precision: of the network and the decoder: "fp32", or "bf16", which is faster at a small error.
        compile: whether ``torch.compile`` translates the network at the first step, which takes about a
            minute. On a CPU it pays for small batches only.
    """

    steps: int = 2
    guidance_scale: float = 1.0
    guidance_rescale: float = 0.0
    history: Literal["stream", "recompute"] = "stream"
    history_level: int | Literal["penultimate"] = -1
    eta: float = 0.0
    first_noise: Literal["independent", "antithetic"] = "independent"
    last_level: Literal[-1, 0] = -1
    window: int | None = None
    sample_posterior: bool = False
    precision: Precision = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"sampler.steps must be at least 1, got {self.steps}")
        if self.history not in ("stream", "recompute"):
            raise ValueError(f'sampler.history must be "stream" or "recompute", got {self.history!r}')
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f'sampler.precision must be "fp32" or "bf16", got {self.precision!r}')
        if self.history_level != "penultimate" and not (
            isinstance(self.history_level, int) and -1 <= self.history_level < 1000
        ):
            raise ValueError(
                f'sampler.history_level must lie in -1..999 or be "penultimate", got {self.history_level!r}'
            )
        if self.first_noise not in ("independent", "antithetic"):
            raise ValueError(
                f'sampler.first_noise must be "independent" or "antithetic", got {self.first_noise!r}'
            )
        if self.window is not None and self.window < 2:
            raise ValueError(f"sampler.window must be at least 2 frames, got {self.window}")


class Sampler:
    """The chain of denoising steps, and how finished frames are noised for the history.

    Args:
        diffusion: the schedule.
        config: how to sample.
        source: where noise comes from.
    """

    def __init__(self, diffusion: Diffusion, config: SamplerConfig, source: Noise = noise) -> None:
        self.diffusion, self.config, self.source = diffusion, config, source
        self.levels = trailing_timesteps(config.steps, diffusion.config.num_train_timesteps)
        if config.history_level == "penultimate":
            self.history_level = self.levels[-2:][0]
        else:
            self.history_level = config.history_level

    @property
    def guided(self) -> bool:
        """Whether frames are predicted without their action, too."""
        return self.config.guidance_scale != 1.0

    def denoise(
        self, predict: Predict, like: torch.Tensor, seeds: torch.Tensor, index: torch.Tensor
    ) -> torch.Tensor:
        """Make a frame.

        Args:
            predict: the network.
            like: ``(b, c, h, w)``, shape and device of the result.
            seeds: ``(b,)`` int64, noise key per slot.
            index: ``(b,)`` int64, of the frame in its episode.

        Returns:
            ``(b, c, h, w)`` float32.
        """
        config, frame = self.config, index[:, None]
        z = self._first_noise(like.shape[1:], seeds, frame)
        for i, now in enumerate(self.levels):
            last = i == len(self.levels) - 1
            v, free = predict(z, now)
            if free is not None:
                guided = guide(v, free, config.guidance_scale)
                v = match_deviation(guided, v, config.guidance_rescale)
            fresh = self.noise(like.shape[1:], seeds, frame, "step", i) if config.eta > 0 else None
            here = torch.full((len(z), 1), now, device=z.device)
            then = torch.full_like(here, config.last_level if last else self.levels[i + 1])
            z = self.diffusion.ddim(z, v[:, -1:], here, then, config.eta, fresh, keep_scale=last)
        return z[:, 0]

    def blurred(
        self, latents: torch.Tensor, seeds: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, int]:
        """Finished frames as the history takes them, and their noise level.

        The noise of a frame is drawn once: it is the same whenever the frame is read again.

        Args:
            latents: ``(b, f, c, h, w)``.
            seeds: ``(b,)`` int64, noise key per slot.
            index: ``(b, f)`` int64, of each frame in its episode.
        """
        if self.history_level < 0:
            return latents, 0
        level = torch.full(latents.shape[:2], self.history_level, device=latents.device)
        drawn = self.noise(latents.shape[2:], seeds, index, "history")
        return self.diffusion.at(level).noisy(latents, drawn), self.history_level

    def _first_noise(self, shape: Sequence[int], seeds: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Where the frames ``index`` ``(b, f)`` begin; see ``SamplerConfig.first_noise``."""
        if self.config.first_noise == "independent":
            return self.noise(shape, seeds, index, "frame")
        sign = (1 - 2 * (index % 2)).view(*index.shape, *[1] * len(shape))
        return sign * self.noise(shape, seeds, index // 2, "frame")

    def noise(
        self, shape: Sequence[int], seeds: torch.Tensor, index: torch.Tensor, stream: str, step: int = 0
    ) -> torch.Tensor:
        """Unit normal ``(b, f, *shape)`` for the frames ``index`` ``(b, f)``, on its device."""
        return self.source(seeds[:, None].expand_as(index), index, stream, shape, step)
