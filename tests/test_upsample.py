"""Doubling the resolution by one transposed convolution is doubling, then a convolution."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.upsampling import Upsample2D

from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.upsample import Upsample


def layers(channels: int = 6) -> tuple[Upsample2D, Upsample]:
    torch.manual_seed(0)
    usual = Upsample2D(channels, use_conv=True)
    return usual, Upsample(copy.deepcopy(usual.conv))


@pytest.mark.parametrize("shape", [(1, 6, 1, 1), (2, 6, 3, 5), (70, 6, 4, 4)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_equals_doubling_and_convolving(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    usual, lean = layers()
    x = torch.randn(shape).contiguous(memory_format=layout)
    torch.testing.assert_close(lean(x), usual(x), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(lean(x), usual(x), rtol=1e-5, atol=1e-5)
        assert torch.equal(lean(x), lean(x))


def test_so_do_gradients() -> None:
    usual, lean = layers()
    x = torch.randn(2, 6, 4, 4)
    for layer in (usual, lean):
        layer(x).square().mean().backward()
    torch.testing.assert_close(lean.conv.weight.grad, usual.conv.weight.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(lean.conv.bias.grad, usual.conv.bias.grad, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_new_weights_are_noticed_however_they_come() -> None:
    usual, lean = layers()
    x = torch.randn(2, 6, 4, 4)
    changes = {
        "in place": lambda layer: layer.conv.weight.mul_(2.0),
        "loaded": lambda layer: layer.load_state_dict({k: v + 1.0 for k, v in layer.state_dict().items()}),
        "assigned": lambda layer: layer.load_state_dict(
            {k: v - 0.5 for k, v in layer.state_dict().items()}, assign=True
        ),
        "swapped": lambda layer: setattr(layer.conv.weight, "data", layer.conv.weight.data * 3.0),
        "other precision and back": lambda layer: layer.double().float(),
    }
    for how, change in changes.items():
        before = lean(x)
        for layer in (usual, lean):
            change(layer)
        torch.testing.assert_close(lean(x), usual(x), rtol=1e-5, atol=1e-4, msg=how)
        assert how.startswith("other") or not torch.allclose(lean(x), before)


@torch.no_grad()
def test_half_precision_weights_are_used_as_they_are() -> None:
    usual, lean = (layer.bfloat16() for layer in layers())
    x = torch.randn(2, 6, 4, 4).bfloat16()
    torch.testing.assert_close(lean(x), usual(x), rtol=0, atol=0.02)


def test_a_codec_keeps_the_names_of_its_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, **blocks)
    FrameCodec(vae).save_pretrained(tmp_path)
    read = FrameCodec.from_pretrained(tmp_path)
    assert read.vae.state_dict().keys() == vae.state_dict().keys()
    latents = torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(
        read.decode_pixels(latents), FrameCodec(vae).decode_pixels(latents), rtol=1e-4, atol=1e-5
    )
