"""Set points: what actions add up to is kept with the state, stops at its range, and reads only the past."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.test_world_model import TINY, WINDOW, clips, run, unet
from v2w_gym.training.world_model import VideoConfig, start_weights
from v2w_gym.world_model.actions import Leading
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.timeline import clip
from v2w_gym.world_model.unet import VideoUNet

RANGES = ((-2.0, 2.0), None, (0.0, 1.5))


def test_a_set_point_is_the_sum_of_the_actions_within_its_range():
    leading = Leading(3, RANGES)
    actions = torch.tensor([[[1.0, 9.0, 1.0], [0.5, 9.0, 1.0], [1.0, 9.0, -1.0], [-1.0, 9.0, -1.0]]])
    led = leading.along(actions)[0]
    assert torch.equal(led[1:, :3], actions[0])
    # what is beyond the range is lost, as where a controller stops, not owed
    assert led[:, 3].tolist() == [0.0, 1.0, 1.5, 2.0, 1.0]
    assert led[:, 4].tolist() == [0.0, 1.0, 1.5, 0.5, 0.0]


def test_without_ranges_what_leads_to_a_frame_is_its_action_alone():
    leading = Leading(3)
    actions = torch.rand(2, 4, 3)
    led = leading.along(actions)
    assert torch.equal(led[:, 1:], actions)
    assert not led[:, 0].any()
    assert torch.equal(leading.after(led[:, -1], actions[:, 0]), actions[:, 0])


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (RANGES[:2], "needs 3 ranges"),
        ((None, None, None), "leave it null"),
        (((1.0, 2.0), None, None), "contain 0"),
        (((0.0, 0.0), None, None), "contain 0"),
    ],
)
def test_ranges_that_cannot_be_are_refused(ranges, message):
    with pytest.raises(ValueError, match=message):
        VideoUNet(**{**TINY, "set_point": ranges})


def test_actions_without_their_set_point_are_refused():
    with pytest.raises(ValueError, match="5 numbers here, got 3"):
        run(unet(set_point=RANGES), clip(4, WINDOW), **clips(4))


def test_a_changed_action_reaches_all_later_set_points_and_no_earlier_frame():
    network, inputs, j = unet(set_point=RANGES), clips(9), 4
    actions = inputs["actions"][:, 1:]
    other = actions.clone()
    other[:, j - 1, 0] -= 0.5
    first, second = network.leading.along(actions), network.leading.along(other)
    assert torch.equal(first[:, :j], second[:, :j])
    before = run(network, clip(9, WINDOW), **{**inputs, "actions": first})
    after = run(network, clip(9, WINDOW), **{**inputs, "actions": second})
    assert torch.equal(before[:, :j], after[:, :j])
    assert not torch.equal(before[:, j], after[:, j])


def test_stepping_keeps_the_set_point_of_the_whole_episode():
    """Far beyond the window, which has long forgotten the first actions."""
    network, frames = unet(set_point=RANGES), 4 * WINDOW
    given = clips(frames)
    actions = given["actions"][:, 1:]
    dynamics = LatentDynamics(network, sampler=SamplerConfig(steps=1))
    state = dynamics.init(given["latents"][:, :1], actions[:, :0], [1, 2])
    for action in actions.unbind(1):
        state = dynamics.step(state, action)
    torch.testing.assert_close(state.led, network.leading.along(actions)[:, -1])
    # frames given as context count as steps do
    begun = dynamics.init(given["latents"], actions, [1, 2])
    torch.testing.assert_close(begun.led, state.led)


def test_recomputing_a_window_equals_the_cache_until_it_leaves_the_beginning():
    network, given = unet(set_point=RANGES), clips(WINDOW)
    states = []
    for history in ("stream", "recompute"):
        dynamics = LatentDynamics(network, sampler=SamplerConfig(steps=2, history=history))
        state = dynamics.init(given["latents"][:, :1], given["actions"][:, :0], [1, 2])
        for action in given["actions"][:, 1:].unbind(1):
            state = dynamics.step(state, action)
        states.append(state.latent)
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)


def test_weights_without_a_set_point_are_taken_up_unchanged_by_a_network_with_one(tmp_path: Path):
    unet().save_pretrained(tmp_path / "unet")
    sizes = {**TINY, "set_point": RANGES}
    config = VideoConfig(data=(), heldout="", codec="", unet=sizes, init=str(tmp_path / "unet"))
    network, fresh = start_weights(config)
    assert fresh
    assert all("set_point" in name for name in fresh)
    network, inputs = network.eval(), clips(6)
    led = network.leading.along(inputs["actions"][:, 1:])
    plain = {**inputs, "actions": led[..., :3]}
    torch.testing.assert_close(
        run(network, clip(6, WINDOW), **{**inputs, "actions": led}), run(unet(), clip(6, WINDOW), **plain)
    )
    network.save_pretrained(tmp_path / "new")
    kept = json.loads((tmp_path / "new" / "config.json").read_text())["set_point"]
    assert kept == [[-2.0, 2.0], None, [0.0, 1.5]]
