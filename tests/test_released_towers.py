"""The towers of a released checkpoint against independent ones, written here in OpenCLIP's layout.

The public code's own values for them are not at hand; torch's attention has the same fused projection.
"""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from v2w_gym.world_model.released.empty_caption import TextTowerConfig, empty_caption
from v2w_gym.world_model.released.image_tower import (
    DEVIATION,
    MEAN,
    ImageTowerConfig,
    load_image_tower,
    preprocess,
)


class Block(nn.Module):
    """A layer as OpenCLIP names its parts; the fused projection is torch's own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp["c_proj"](functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class ReferenceTower(nn.Module):
    def __init__(self, config: ImageTowerConfig) -> None:
        super().__init__()
        width, count = config.width, (config.image_size // config.patch_size) ** 2
        self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(count + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.proj = nn.Parameter(torch.randn(width, 8))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(images), 1, -1)
        x = self.ln_pre(torch.cat([first, patches], 1) + self.positional_embedding)
        for block in self.transformer["resblocks"]:
            x = block(x)
        return x


class ReferenceText(nn.Module):
    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positional_embedding = nn.Parameter(torch.randn(config.context_length, config.width))
        blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.randn(config.width, 8))
        self.logit_scale = nn.Parameter(torch.ones([]))

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.token_embedding(words) + self.positional_embedding
        later = torch.ones(len(words), len(words), dtype=torch.bool).triu(1)
        for block in self.transformer["resblocks"][:-1]:
            x = block(x[None], later)[0]
        return self.ln_final(x)


TINY = ImageTowerConfig(width=24, layers=2, heads=3, patch_size=4, image_size=16)
TINY_TEXT = TextTowerConfig(width=24, layers=3, heads=3, context_length=7, vocabulary=11)


def shaken(tower: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in tower.parameters():  # biases start at zero, gains at one: hide nothing
            parameter.add_(0.3 * torch.randn_like(parameter))
    return tower.eval()


def test_image_tower_gives_all_tokens_of_the_last_layer():
    pytest.importorskip("transformers", reason='needs pip install "v2w_gym[released]"')
    reference = shaken(ReferenceTower(TINY))
    tower = load_image_tower(reference.state_dict(), TINY)
    pixels = torch.rand(2, 3, 20, 32) * 2 - 1
    with torch.no_grad():
        expected = reference(preprocess(pixels, 16))
    assert expected.shape == (2, 17, 24)
    torch.testing.assert_close(tower(pixels), expected, rtol=1e-4, atol=1e-5)


def test_a_tower_with_a_tensor_missing_or_too_many_is_reported():
    pytest.importorskip("transformers", reason='needs pip install "v2w_gym[released]"')
    state = shaken(ReferenceTower(TINY)).state_dict()
    with pytest.raises(ValueError, match=r"unknown .1.: attn_pool"):
        load_image_tower({**state, "attn_pool": torch.ones(1)}, TINY)
    del state["transformer.resblocks.1.attn.in_proj_bias"]
    with pytest.raises(ValueError, match=r"missing .3.: encoder\.layers\.1\.self_attn\.k_proj\.bias"):
        load_image_tower(state, TINY)


def test_the_empty_caption_is_read_one_layer_before_the_last():
    pytest.importorskip("transformers", reason='needs pip install "v2w_gym[released]"')
    reference = shaken(ReferenceText(TINY_TEXT))
    with torch.no_grad():
        expected = reference(torch.tensor([9, 10, 0, 0, 0, 0, 0]))
    ours = empty_caption(reference.state_dict(), TINY_TEXT)
    assert ours.shape == (7, 24)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("load", "config"), [(load_image_tower, TINY), (empty_caption, TINY_TEXT)])
def test_without_transformers_the_line_to_type_is_named(monkeypatch, load, config):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "v2w_gym\[released\]"'):
        load({}, config)


def test_preprocessing_normalises_and_ignores_the_aspect():
    grey = torch.full((1, 3, 40, 64), 0.2)
    expected = (0.6 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    small = preprocess(grey, 16)
    assert small.shape == (1, 3, 16, 16)
    torch.testing.assert_close(small, expected.view(1, 3, 1, 1).expand_as(small))


def test_preprocessing_keeps_corners_in_place_and_blurs_only_what_shrinks():
    ramp = torch.linspace(-1, 1, 33).expand(1, 3, 9, 33)
    channel = lambda x: x[0, 0] * 0.26862954 + 0.48145466  # noqa: E731  the first one, back in 0..1
    grown = channel(preprocess(ramp, 65))
    torch.testing.assert_close(grown[:, [0, 32, 64]], torch.tensor([0.0, 0.5, 1.0]).expand(65, 3))
    stripes = torch.tensor([-1.0, 1.0]).repeat(48).expand(1, 3, 8, 96)
    assert channel(preprocess(stripes, 8)).sub(0.5).abs().max() < 0.02  # along the shrinking axis: grey
    rows = stripes.transpose(2, 3).contiguous()
    assert channel(preprocess(rows, 8)).sub(0.5).abs().max() < 0.02
    even = torch.tensor([-1.0, 1.0]).repeat(4)[:, None].expand(1, 3, 8, 96)
    torch.testing.assert_close(channel(preprocess(even, 8))[:, 0], torch.tensor([0.0, 1.0]).repeat(4))
