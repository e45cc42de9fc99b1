"""The maths against hand-computed values, library values and the properties that it must have."""

from __future__ import annotations

import json

import pytest
import torch
from parity import PARITY, needs_parity
from safetensors.torch import load_file

from v2w_gym.world_model import causalize
from v2w_gym.world_model.diffusion import (
    Diffusion,
    ScheduleConfig,
    alphas_cumprod,
    dynamic_scale,
    guide,
    trailing_timesteps,
)


def test_schedule_has_zero_terminal_signal_and_equals_diffusers() -> None:
    from diffusers import DDIMScheduler

    config = ScheduleConfig()
    ours = alphas_cumprod(config)
    theirs = DDIMScheduler(
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    assert ours[-1] == 0
    torch.testing.assert_close(ours.float(), theirs.alphas_cumprod, rtol=1e-3, atol=1e-5)
    theirs.set_timesteps(10)
    assert trailing_timesteps(10) == theirs.timesteps.tolist()


@needs_parity
def test_schedule_equals_the_public_code() -> None:
    reference = json.loads((PARITY / "schedule.json").read_text())
    ours = alphas_cumprod(ScheduleConfig())
    for level, value in reference["alphas_cumprod"].items():
        assert ours[int(level)].item() == pytest.approx(value, abs=1e-6)
    for steps, levels in reference["ddim_timesteps_uniform_trailing_ascending"].items():
        assert trailing_timesteps(int(steps)) == levels[::-1]


@needs_parity
@pytest.mark.parametrize("steps", [50, 20, 10, 5])
def test_every_step_of_the_public_sampler_has_the_same_coefficients(steps: int) -> None:
    stored = load_file(PARITY / "schedule.safetensors")
    stored = {key.removeprefix(f"ddim{steps}/"): value for key, value in stored.items()}
    levels = trailing_timesteps(steps)[::-1]
    before = [0, *levels[:-1]]  # the public code ends at level 0, but with the scale of its last step
    now, then = (Diffusion().at(torch.tensor(x)) for x in (levels, before))
    scale = dynamic_scale()
    ours = {
        "alphas": now.signal.square().flatten(),
        "alphas_prev": then.signal.square().flatten(),
        "sigmas_eta1": now.deviation(then, 1.0).flatten(),
        "scale": scale[levels].float(),
        "scale_prev": scale[[levels[0], *levels[:-1]]].float(),
    }
    assert stored["timesteps"].tolist() == levels
    for name, value in ours.items():
        torch.testing.assert_close(value, stored[name], rtol=1e-5, atol=1e-6, msg=name)


@needs_parity
def test_tables_of_all_levels_equal_the_public_code() -> None:
    stored = load_file(PARITY / "schedule.safetensors")
    alphas = alphas_cumprod(ScheduleConfig())
    torch.testing.assert_close(alphas, stored["alphas_cumprod_fp64"], rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(alphas.float(), stored["alphas_cumprod"], rtol=1e-6, atol=1e-12)
    ours = dynamic_scale(levels=1400)  # its table is longer than there are levels
    torch.testing.assert_close(ours.float(), stored["scale_arr"], rtol=1e-6, atol=0)
    at = Diffusion().at(torch.arange(1000))
    torch.testing.assert_close(at.signal.flatten(), stored["sqrt_alphas_cumprod"], rtol=1e-6, atol=1e-7)
    noise_part = stored["sqrt_one_minus_alphas_cumprod"]
    torch.testing.assert_close(at.noise.flatten(), noise_part, rtol=1e-6, atol=1e-7)


def test_dynamic_scale_by_hand() -> None:
    expected = torch.tensor([1.0, 0.75, 0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(dynamic_scale(0.5, 3, 4), expected)
    torch.testing.assert_close(dynamic_scale(0.5, 3, 2), expected[:2])


@pytest.mark.parametrize(("steps", "expected"), [(1, [999]), (2, [999, 499]), (4, [999, 749, 499, 249])])
def test_trailing_levels_by_hand(steps: int, expected: list[int]) -> None:
    assert trailing_timesteps(steps) == expected


def test_conversions_invert_each_other_at_every_level() -> None:
    diffusion = Diffusion()
    level = torch.arange(1000)[None]
    x, e = torch.randn(2, 1, 1000, 3, 2, 2, dtype=torch.float32).unbind(0)
    at = diffusion.at(level)
    z, v = at.noisy(x, e), at.velocity(x, e)
    torch.testing.assert_close(at.clean(z, v), x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(at.residual(z, v), e, rtol=1e-4, atol=1e-4)
    assert torch.equal(z[:, -1], e[:, -1])
    torch.testing.assert_close(v[:, -1], -x[:, -1])


@pytest.mark.parametrize("steps", [1, 2, 3, 16, 30])
def test_ddim_with_a_perfect_network_arrives_at_the_clean_latent(steps: int) -> None:
    diffusion = Diffusion()
    x, z = torch.randn(2, 4, 2, 3, 2, 2).unbind(0)
    levels = trailing_timesteps(steps)
    for now, then in zip(levels, [*levels[1:], -1], strict=True):
        level = torch.full((4, 2), now)
        at = diffusion.at(level)
        e = (z - at.signal * x) / at.noise
        z = diffusion.ddim(z, at.velocity(x, e), level, torch.full_like(level, then))
    torch.testing.assert_close(z, x, rtol=1e-3, atol=1e-3)


def test_every_frame_has_its_own_level() -> None:
    diffusion = Diffusion()
    z, v = torch.randn(2, 1, 2, 3, 2, 2).unbind(0)
    both = diffusion.ddim(z, v, torch.tensor([[999, 499]]), torch.tensor([[499, -1]]))
    first = diffusion.ddim(z[:, :1], v[:, :1], torch.tensor([[999]]), torch.tensor([[499]]))
    last = diffusion.ddim(z[:, 1:], v[:, 1:], torch.tensor([[499]]), torch.tensor([[-1]]))
    assert torch.equal(both, torch.cat([first, last], dim=1))


def test_guidance_of_one_is_conditional_and_of_zero_unconditional() -> None:
    c, u = torch.randn(2, 5).unbind(0)
    torch.testing.assert_close(guide(c, u, 1.0), c)
    torch.testing.assert_close(guide(c, u, 0.0), u)


def kernel() -> torch.Tensor:
    return torch.randn(4, 3, 3, 1, 1, dtype=torch.float64)


def test_weight_transfer_by_hand() -> None:
    base = kernel()
    before, now, after = base.unbind(2)
    zero = torch.zeros_like(now)
    assert torch.equal(causalize.shift(base), base)
    assert torch.equal(causalize.masked(base), torch.stack([zero, before, now], 2))
    expected = torch.stack([zero, before - after, now + 2 * after], 2)
    torch.testing.assert_close(causalize.extrapolative(base), expected)


@pytest.mark.parametrize(("future", "past"), [(1, 2), (1, 3), (2, 2), (2, 4), (3, 5)])
def test_extrapolative_transfer_is_exact_on_straight_lines(future: int, past: int) -> None:
    """On features that move along a line the causal kernel sees what the non-causal one saw."""
    base = torch.randn(2, 3, 2 * future + 1, dtype=torch.float64)
    reach = max(2 * future, past - 1)
    causal = causalize.extrapolative(base, past=past, reach=reach)
    offset, slope = torch.randn(2, 3, dtype=torch.float64)

    def line(t: torch.Tensor) -> torch.Tensor:
        return offset[:, None] + slope[:, None] * t

    whole = torch.einsum("oik,ik->o", base, line(torch.arange(-future, future + 1)))
    seen = torch.einsum("oik,ik->o", causal, line(torch.arange(-reach, 1)))
    torch.testing.assert_close(seen, whole)


def test_one_past_frame_repeats_it() -> None:
    torch.testing.assert_close(causalize.extrapolation_weights(2, 1), torch.ones(2, 1, dtype=torch.float64))


def test_extrapolation_is_the_least_squares_line() -> None:
    import numpy as np

    values = np.random.default_rng(0).normal(size=5)
    line = np.polyfit(-np.arange(5), values, 1)
    gamma = causalize.extrapolation_weights(3, 5).numpy()
    np.testing.assert_allclose(gamma @ values, np.polyval(line, [1, 2, 3]))


def test_unknown_transfer_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown weight transfer"):
        causalize.causalize({}, "magic")
