"""The diffusion maths on one page: schedule, v-prediction, per-frame noising, the DDIM update.

Symbols: ``a`` is the cumulative product of (1 - beta), written alpha-bar in the papers; at noise level t a
noisy latent is ``z = sqrt(a) x + sqrt(1 - a) e`` with clean latent ``x`` and unit noise ``e``. Noise levels
have the axes ``b f``: every frame has its own (diffusion forcing, arXiv 2407.01392).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class ScheduleConfig:
    """The noise schedule, under the names that diffusers' ``scheduler_config.json`` uses.

    Attributes:
        num_train_timesteps: number of noise levels T.
        beta_start: first beta of the schedule.
        beta_end: last beta of the schedule.
        beta_schedule: "scaled_linear" is linear in the square root of beta.
        rescale_betas_zero_snr: whether the last level is pure noise.
        prediction_type: what the network predicts.
        timestep_spacing: how few levels are chosen out of many.
        clip_sample: never, for latents.
        set_alpha_to_one: False ends at level 0 rather than at no noise at all.
        use_dynamic_rescale: whether clean latents shrink with the noise level; see ``dynamic_scale``.
        base_scale: to what.
        turning_step: from which level on no further.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: Literal["scaled_linear"] = "scaled_linear"
    rescale_betas_zero_snr: bool = True
    prediction_type: Literal["v_prediction"] = "v_prediction"
    timestep_spacing: Literal["trailing"] = "trailing"
    clip_sample: Literal[False] = False
    set_alpha_to_one: Literal[False] = False
    use_dynamic_rescale: bool = False
    base_scale: float = 0.7
    turning_step: int = 400


def alphas_cumprod(config: ScheduleConfig) -> torch.Tensor:
    """Alpha-bar of every level, ``(T,)`` float64; computed in float64, as the last levels need it.

    Zero terminal signal-to-noise: Lin et al., arXiv 2305.08891, algorithm 1.
    """
    root = torch.linspace(
        config.beta_start**0.5, config.beta_end**0.5, config.num_train_timesteps, dtype=torch.float64
    )
    signal = (1.0 - root.square()).cumprod(0).sqrt()
    if config.rescale_betas_zero_snr:
        first, last = signal[0].clone(), signal[-1].clone()
        signal = (signal - last) * first / (first - last)
    return signal.square()


def trailing_timesteps(steps: int, levels: int = 1000) -> list[int]:
    """``steps`` levels from T-1 down, evenly spaced (Lin et al., arXiv 2305.08891, table 2, "trailing").

    Raises:
        ValueError: fewer than one step or more than there are levels.
    """
    if not 1 <= steps <= levels:
        raise ValueError(f"denoising steps must lie in 1..{levels}, got {steps}")
    return [round(levels - i * levels / steps) - 1 for i in range(steps)]


def dynamic_scale(base_scale: float = 0.7, turning_step: int = 400, levels: int = 1000) -> torch.Tensor:
    """What a clean latent is multiplied by at every level, ``(T,)`` float64; the released models need it.

    A straight line from 1 down to ``base_scale`` over the first ``turning_step`` levels, then flat. Training
    noises ``scale[level] * x``; a denoising step multiplies its clean estimate by ``scale[next]`` over
    ``scale[now]``, except that the last step, to level 0, keeps the scale that it has.
    """
    fall = torch.linspace(1.0, base_scale, turning_step, dtype=torch.float64)
    return torch.cat([fall, fall.new_full((max(levels - turning_step, 0),), base_scale)])[:levels]


@dataclass(frozen=True)
class Levels:
    """Signal and noise amplitude of given levels, shaped to multiply latents: ``(b, f, 1, 1, 1)``."""

    signal: torch.Tensor
    noise: torch.Tensor

    def noisy(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """``z = sqrt(a) x + sqrt(1-a) e`` (Ho et al., arXiv 2006.11239, eq. 4)."""
        return self.signal * x + self.noise * e

    def velocity(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """``v = sqrt(a) e - sqrt(1-a) x`` (Salimans and Ho, arXiv 2202.00512, appendix D)."""
        return self.signal * e - self.noise * x

    def clean(self, z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """``x = sqrt(a) z - sqrt(1-a) v`` (same)."""
        return self.signal * z - self.noise * v

    def deviation(self, then: Levels, eta: float) -> torch.Tensor:
        """Of the fresh noise in an update from here to ``then`` (Song et al., arXiv 2010.02502, eq. 16)."""
        ratio = 1 - (self.signal / then.signal).square()
        return eta * then.noise / self.noise * ratio.clamp(min=0).sqrt()

    def residual(self, z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """``e = sqrt(1-a) z + sqrt(a) v`` (same)."""
        return self.noise * z + self.signal * v


class Diffusion:
    """A schedule and what is done with it. Holds no weights and no state."""

    def __init__(self, config: ScheduleConfig | None = None) -> None:
        self.config = config or ScheduleConfig()
        self._alphas = alphas_cumprod(self.config)
        self._scale = torch.ones_like(self._alphas)
        if self.config.use_dynamic_rescale:
            self._scale = dynamic_scale(self.config.base_scale, self.config.turning_step, len(self._alphas))

    def at(self, level: torch.Tensor) -> Levels:
        """Amplitudes at noise levels ``(b, f)``."""
        a = self._alphas.to(level.device)[level][..., None, None, None]
        return Levels(a.sqrt().float(), (1 - a).sqrt().float())

    def scale(self, level: torch.Tensor) -> torch.Tensor:
        """What clean latents are multiplied by at noise levels ``(b, f)``, shaped ``(b, f, 1, 1, 1)``."""
        return self._scale.to(level.device)[level][..., None, None, None].float()

    def ddim(
        self,
        z: torch.Tensor,
        v: torch.Tensor,
        level: torch.Tensor,
        next_level: torch.Tensor,
        eta: float = 0.0,
        noise: torch.Tensor | None = None,
        keep_scale: bool = False,
    ) -> torch.Tensor:
        """One denoising update from ``level`` to ``next_level``, both ``(b, f)``.

        Song et al., arXiv 2010.02502, eq. 12 and 16. Walks the list of levels that is given, so any number of
        steps is right. A ``next_level`` of -1 is the end: it returns the clean estimate. ``eta`` above 0 adds
        ``noise`` ``(b, f, c, h, w)`` at every step but that one. The clean estimate goes from the scale of
        ``level`` to that of ``next_level``, unless ``keep_scale``.
        """
        now = self.at(level)
        x, e = now.clean(z, v), now.residual(z, v)
        end = (next_level < 0)[..., None, None, None]
        then = self.at(next_level.clamp(min=0))
        if self.config.use_dynamic_rescale and not keep_scale:
            x = x * (self.scale(next_level.clamp(min=0)) / self.scale(level))
        sigma = torch.zeros_like(then.noise)
        if eta > 0.0:
            if noise is None:
                raise ValueError("eta above 0 needs noise")
            sigma = now.deviation(then, eta)
        z = then.signal * x + (then.noise.square() - sigma.square()).clamp(min=0).sqrt() * e
        if noise is not None:
            z = z + sigma * noise
        return torch.where(end, x, z)


def guide(conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
    """Causal action guidance: ``u + s (c - u)``; the unconditional branch drops only the current action.

    The paper (arXiv 2505.14357, section 3.2) writes ``(1 + L) c - L u``, the same with ``s = 1 + L``.
    """
    return unconditional + scale * (conditional - unconditional)


def match_deviation(guided: torch.Tensor, conditional: torch.Tensor, share: float) -> torch.Tensor:
    """Give ``share`` of a guided prediction the standard deviation of the conditional one, per sample.

    Lin et al., arXiv 2305.08891, equations 15 and 16, with the deviation over all axes but the first, the
    frames of the history included, as the public code has it.
    """
    if share == 0.0:
        return guided
    axes = tuple(range(1, guided.ndim))
    ratio = conditional.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    return guided * (share * ratio + 1 - share)
