"""A frame sampled from a released network, and its training loss, as the public implementation has them."""

from dataclasses import replace

import pytest
import torch
from parity import RELEASED_SAMPLER, RELEASED_SCHEDULE, needs_parity, read, relative, released_unet
from tensordict import TensorDict

from v2w_gym.world_model.diffusion import Diffusion, dynamic_scale, match_deviation
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.timeline import clip

PUBLIC = replace(RELEASED_SAMPLER, steps=5, eta=0.0)


class Recorded:
    """The noise that the public implementation drew, frame by frame."""

    def __init__(self, given):
        self.given, self.asked = given, set()
        self.history, self.steps = given["z_history"].shape[2], len(given["ddim_timesteps"])

    def __call__(self, seeds, frames, stream, shape, step=0):
        return torch.stack([self.column(column, stream, shape, step) for column in frames.T.tolist()], 1)

    def column(self, frames, stream, shape, step):
        (frame,) = set(frames)
        self.asked.add((stream, frame, step))
        return self.draw(frame, stream, step).expand(len(frames), *shape)

    def draw(self, frame, stream, step):
        if stream == "frame":
            return self.given["x_T"][:, :, frame]
        if stream == "step":
            place = (frame - self.history) * self.steps + step
            return self.given[f"step{place:02d}/eta_noise"][:, :, frame]
        if frame < self.history - 1:
            return self.given["history_noise/0"][:, :, frame]
        # the newest of the given frames is noised anew when the first is made; others once they are done
        return self.given[f"history_noise/{frame - self.history + 2}"][:, :, 0]


def tokens(given):
    return TensorDict({"given": given["context_cond"], "free": given["context_uncond"]}, batch_size=[1])


def episode(name, **changes):
    """Dynamics, state and actions still to take, as the public implementation was given them."""
    given = read(name)
    eta = float(given["eta"])
    config = replace(PUBLIC, **{"eta": eta, "steps": len(given["ddim_timesteps"]), **changes})
    unet = released_unet(**({"temporal_norm": "frame"} if config.history == "stream" else {}))
    dynamics = LatentDynamics(unet, RELEASED_SCHEDULE, config, source=Recorded(given))
    latents, actions = given["z_history"].transpose(1, 2), given["action_raw"]
    frames = latents.shape[1]
    state = dynamics.init(latents, actions[:, : frames - 1], [0], tokens(given))
    return given, dynamics, state, actions[:, frames - 1 : -1]


@needs_parity
@pytest.mark.parametrize("name", ["ar_eta0", "ar_eta1", "ar_two_frames_eta1"])
def test_a_sampled_frame_is_that_of_the_public_implementation(name):
    given, dynamics, state, actions = episode(name)
    for place, action in enumerate(actions.unbind(1)):
        state = dynamics.step(state, action)
        expected = given["final"][:, :, dynamics.sampler.source.history + place]
        assert relative(state.latent, expected) < 1e-4


@needs_parity
def test_the_steps_on_the_way_are_those_too():
    given, dynamics, state, actions = episode("ar_eta1")
    seen, network = [], dynamics.history.network

    def watch(*args):
        v = network(*args)
        seen.append((args[0], args[1].clone(), v))
        return v

    dynamics.history.network = watch
    dynamics.step(state, actions[:, 0])
    for step in range(dynamics.sampler.config.steps):
        (z, free_z), (levels, _), (conditional, free) = (both.chunk(2) for both in seen[step])
        at = f"step{step:02d}"
        assert torch.equal(z, free_z)
        assert torch.equal(levels, given[f"{at}/timesteps"])
        assert relative(z.transpose(1, 2), given[f"{at}/x_in"]) < 1e-4
        assert relative(conditional.transpose(1, 2), given[f"{at}/v_cond"]) < 1e-4
        assert relative(free.transpose(1, 2), given[f"{at}/v_uncond"]) < 1e-4
        guided = match_deviation(free + 2.5 * (conditional - free), conditional, 0.7)
        assert relative(guided.transpose(1, 2), given[f"{at}/v_guided_rescaled"]) < 1e-4


@needs_parity
def test_guidance_and_noise_matter():
    _, dynamics, state, actions = episode("ar_eta1")
    whole = dynamics.step(state, actions[:, 0]).latent
    for change in ({"guidance_rescale": 0.0}, {"guidance_scale": 1.0}, {"eta": 0.0}, {"history_level": -1}):
        _, other, state, _ = episode("ar_eta1", **change)
        assert relative(other.step(state, actions[:, 0]).latent, whole) > 1e-3, change


@needs_parity
def test_streaming_a_released_network_is_a_stated_deviation():
    _, dynamics, state, actions = episode("ar_eta0")
    _, streaming, streamed, _ = episode("ar_eta0", history="stream")
    a, b = dynamics.step(state, actions[:, 0]).latent, streaming.step(streamed, actions[:, 0]).latent
    assert torch.isfinite(b).all()
    assert 1e-3 < relative(b, a) < 1.5  # not equal, and not noise either
    with pytest.raises(ValueError, match=r'use sampler\.history "recompute"'):
        LatentDynamics(released_unet(), RELEASED_SCHEDULE, SamplerConfig(history="stream"))


@pytest.mark.slow
@needs_parity
def test_slots_of_different_length_are_imagined_as_if_alone():
    given, _, _, _ = episode("ar_eta1")
    unet = released_unet()
    dynamics = LatentDynamics(unet, RELEASED_SCHEDULE, PUBLIC)
    latents, actions = given["z_history"].transpose(1, 2), given["action_raw"]

    def begin(frames, seed):
        return dynamics.init(latents[:, :frames], actions[:, : frames - 1], [seed], tokens(given))

    alone = [begin(1, 3), begin(3, 4)]
    together = torch.cat(alone)
    action = actions[:, :1].squeeze(1)
    for _ in range(2):
        together = dynamics.step(together, action.expand(2, -1))
        alone = [dynamics.step(state, action) for state in alone]
    for i, state in enumerate(alone):
        assert relative(together.latent[i], state.latent[0]) < 1e-4


@needs_parity
def test_a_long_episode_goes_on_from_its_newest_frames():
    given, _, _, _ = episode("ar_eta0")
    asked = []

    def rebuild(latents, seeds, index):
        asked.append((tuple(latents.shape[:2]), index.tolist()))
        return latents, tokens(given)

    config = replace(PUBLIC, steps=1, window=3)
    dynamics = LatentDynamics(released_unet(), RELEASED_SCHEDULE, config, rebuild)
    state = dynamics.init(
        given["z_history"].transpose(1, 2)[:, :1], torch.zeros(1, 0, 13), [0], tokens(given)
    )
    for t in range(24):  # beyond the ring, too
        before = state
        state = dynamics.step(state, given["action_raw"][:, t % 4])
    assert asked[0] == ((1, 2), [[1, 2]])
    assert asked[-1] == ((1, 2), [[22, 23]])
    fresh = dynamics.step(before, given["action_raw"][:, 0]).latent
    older = before.clone()
    older.latents[:, torch.tensor([t % 16 for t in range(10, 22)])] += 1.0  # what the window has left behind
    assert torch.equal(dynamics.step(older, given["action_raw"][:, 0]).latent, fresh)


@needs_parity
def test_the_training_loss_and_its_gradient_are_those_of_the_public_implementation():
    given, diffusion = read("train_loss"), Diffusion(RELEASED_SCHEDULE)
    x0, noise = (given[name].transpose(1, 2) for name in ("x0", "noise"))
    level = given["timesteps"]
    scaled = diffusion.scale(level) * x0
    assert relative(scaled.transpose(1, 2), given["x_scaled"]) < 1e-6
    at = diffusion.at(level)
    noisy, target = at.noisy(scaled, noise), at.velocity(scaled, noise)
    assert relative(noisy.transpose(1, 2), given["x_noisy"]) < 1e-5
    assert relative(target.transpose(1, 2), given["v_target"]) < 1e-5
    unet = released_unet()
    kept, tokens, fps = given["action_mask"].bool(), given["context"], given["fs"]
    led = unet.leading.along(given["action_raw"][:, :-1])
    frames = x0.shape[1]
    v = unet(noisy, level, led, kept, x0[:, 0], clip(frames, 16), tokens=tokens, fps=fps)
    loss = (v - target).square().mean()
    unet.zero_grad()
    loss.backward()
    assert relative(loss, given["loss"]) < 1e-5
    norm = torch.stack([p.grad.norm() for p in unet.parameters() if p.grad is not None]).norm()
    assert relative(norm, given["unet_grad_norm"]) < 1e-4
    ours = {
        "out.0.weight": unet.norm_out.weight,
        "out.2.conv2d.weight": unet.conv_out.weight,
        "time_embed.0.weight": unet.time_embedding.linear_1.weight,
        "action_emb_proj.0.weight": unet.action_encoder.layers[0].weight,
        "init_attn.0.transformer_blocks.0.attn1.to_q.weight": unet.initial_attention.attn1.to_q.weight,
        "middle_block.1.transformer_blocks.0.attn2.to_k_ip.weight": unet.middle[
            0
        ].spatial_attention.attn2.to_k_ip.weight,
        "middle_block.2.transformer_blocks.0.attn2.to_v.weight": unet.middle[
            0
        ].temporal_attention.attn2.to_v.weight,
        "input_blocks.1.0.temopral_conv.conv1.2.conv3d.weight": unet.down[0][0].temporal_conv.convs[0].weight,
    }
    for name, weight in ours.items():
        assert relative(weight.grad, given[f"grad/{name}"]) < 1e-4, name


def test_the_scale_falls_in_a_straight_line_and_stays():
    scale = dynamic_scale(0.7, 400, 1000)
    assert scale[0] == 1.0
    assert scale[399] == pytest.approx(0.7)
    assert (scale[400:] == scale[399]).all()
    assert torch.allclose(scale[:400].diff(), scale[1] - scale[0])
