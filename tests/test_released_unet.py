"""The released UNet is a configuration of our own, and computes what the public implementation computes."""

import json

import pytest
import torch
from parity import PARITY, needs_parity, read, relative, released_unet, source, stage

from v2w_gym.world_model.released.rename import rename
from v2w_gym.world_model.released.unet import unet_config, unet_rules
from v2w_gym.world_model.state import empty_cache
from v2w_gym.world_model.timeline import Stepping, clip
from v2w_gym.world_model.unet import VideoUNet

FULL = {  # REFERENCE of the public code: the three released models
    "in_channels": 8,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "context_dim": 1024,
    "addition_attention": True,
    "fs_condition": True,
    "default_fs": 3,
}


@pytest.fixture(scope="module")
def network():
    return released_unet()


@needs_parity
def test_every_tensor_of_the_file_is_used_once():
    weights = source("unet")
    manifest = json.loads((PARITY / "checkpoint_manifest.json").read_text())
    assert len(weights) == sum(name.startswith("model.diffusion_model.") for name in manifest)
    assert len(rename(weights, unet_rules(unet_config(stage("unet_config"))))) == len(weights)


@torch.no_grad()
def run(network, given, **changes):
    x = (given | changes)["x"].transpose(1, 2)
    frames, levels = x.shape[1], given["timesteps"]
    levels = levels if levels.ndim == 2 else levels[:, None].expand(-1, frames)
    kept = changes.get("action_mask", given["action_mask"]).bool()
    fps = changes.get("fs", given["fs"])
    axis = clip(frames, 16)
    args = (x[:, :, :4], levels, given["action_fed"], kept, x[:, :, 4:], axis)
    return network(*args, tokens=given["context"], fps=fps).transpose(1, 2)


@needs_parity
@pytest.mark.parametrize("name", ["T16", "T5", "T5_perframe", "T1", "T3_t1d", "batch2_T4"])
def test_outputs_are_those_of_the_public_implementation(network, name):
    given = read(f"unet_{name}")
    assert relative(run(network, given), given["output"]) < 1e-5


@needs_parity
def test_masks_and_fps_do_what_they_do_there(network):
    given, expected = (read(f"unet_T5{part}") for part in ("", "_variants"))
    ones = torch.ones_like(given["action_mask"])
    variants = {
        "mask_all_one": {"action_mask": ones},
        "mask_all_zero": {"action_mask": 0 * ones},
        "fs10": {"fs": torch.tensor([10])},
        "fs_none_default3": {"fs": None},
    }
    for name, changes in variants.items():
        assert relative(run(network, given, **changes), expected[f"output/{name}"]) < 1e-5, name


@needs_parity
def test_every_block_gives_what_it_gives_there(network):
    expected = read("unet_T5_intermediates")
    seen, hooks = {}, []
    places = {
        "input_blocks.0": network.conv_in,
        "init_attn": network.initial_attention,
        "input_blocks.1": network.down[0][0],
        "input_blocks.2": network.downsample[0],
        "input_blocks.3": network.down[1][0],
        "middle_block.0": network.middle[0].temporal_conv,
        "middle_block.1": network.middle[0].spatial_attention,
        "middle_block": network.middle[1],
        "output_blocks.0": network.up[0][0],
        "output_blocks.1": network.upsample[0],
        "output_blocks.2": network.up[1][0],
        "output_blocks.3": network.up[1][1],
    }
    for name, module in places.items():

        def keep(_module, _inputs, output, name=name):
            seen[name] = output

        hooks.append(module.register_forward_hook(keep))
    run(network, read("unet_T5"))
    for hook in hooks:
        hook.remove()
    for name in places:
        assert relative(seen[name], expected[name]) < 1e-5, name


@needs_parity
def test_joint_statistics_leak_the_future_and_per_frame_ones_do_not(network):
    given = read("unet_T5")
    changed = given["x"].clone()
    changed[:, :, 4] += 1.0

    def leak(model):
        moved = run(model, given, x=changed) - run(model, given)
        return float(moved[:, :, :4].abs().max())

    assert leak(network) > 1e-3
    strict = released_unet(temporal_norm="frame")
    assert leak(strict) == 0.0


@needs_parity
def test_per_frame_statistics_can_be_stepped_with_a_cache(network):
    given = read("unet_T5")
    strict = released_unet(temporal_norm="frame")
    parallel, x = run(strict, given), given["x"].transpose(1, 2)
    cache = empty_cache(strict, 1, *x.shape[-2:], x.device)
    kept = given["action_mask"].bool()
    for t in range(5):
        now = slice(t, t + 1)
        axis = Stepping(cache, torch.tensor([[t]]), keep=1)
        args = (x[:, now, :4], given["timesteps"][:, now], given["action_fed"][:, now], kept[:, now])
        with torch.no_grad():
            one = strict(*args, x[:, now, 4:], axis, tokens=given["context"], fps=given["fs"])
        assert relative(one[:, 0], parallel[:, :, t]) < 1e-5


@pytest.mark.parametrize(("actions", "more"), [(13, 2_054_720), (51, 2_066_560), (3, 2_051_520)])
def test_the_full_size_has_the_released_number_of_tensors(actions, more):
    with torch.device("meta"):
        network = VideoUNet(**unet_config({**FULL, "action_dim": actions}))
    sizes = {name: value.numel() for name, value in network.state_dict().items()}
    actions_only = sum(n for name, n in sizes.items() if name.startswith("action_encoder."))
    assert len([name for name in sizes if not name.startswith("action_encoder.")]) == 1516
    assert round((sum(sizes.values()) - actions_only) / 1e6, 1) == 1438.9
    assert actions_only == pytest.approx(more, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_causal_attention": False}, "use_causal_attention must be True, got False"),
        ({"num_heads": 8}, "unknown key 'num_heads' in unet_config.params"),
        ({"model_channels": None}, "model_channels must be int"),
        ({"in_channels": 4}, "twice out_channels"),
    ],
)
def test_settings_that_no_released_model_has_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        unet_config({**FULL, **change})
