"""The released image tower (OpenCLIP's vision transformer) as a ``CLIPVisionModel`` of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from v2w_gym.weights import fill_strictly
from v2w_gym.world_model.released.openclip import BLOCKS, MISSING, unfused
from v2w_gym.world_model.released.rename import rename

if TYPE_CHECKING:
    from transformers import CLIPVisionModel

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images, per colour channel
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImageTowerConfig:
    """Sizes of the tower; the defaults are ViT-H-14, which all released models use.

    Attributes:
        width: width of a token.
        layers: number of layers.
        heads: number of attention heads.
        patch_size: pixels along the side of a patch.
        image_size: pixels along the side of the image.
        mlp_ratio: hidden width of the feed-forward part, as a multiple of ``width``.
    """

    width: int = 1280
    layers: int = 32
    heads: int = 16
    patch_size: int = 14
    image_size: int = 224
    mlp_ratio: int = 4


RULES = [
    (r"class_embedding", r"embeddings.class_embedding"),
    (r"positional_embedding", r"embeddings.position_embedding.weight"),
    (r"conv1\.weight", r"embeddings.patch_embedding.weight"),
    (r"ln_pre\.(\w+)", r"pre_layrnorm.\1"),  # so spelt there
    (r"ln_post\.(\w+)", r"post_layernorm.\1"),
    *BLOCKS,
]
IGNORED = ("proj",)  # from the class token to the space shared with text


class ImageTower(nn.Module):
    """Images to all tokens of the last layer, neither normalised nor projected."""

    def __init__(self, config: ImageTowerConfig) -> None:
        super().__init__()
        self.config, self.model = config, _vision_model(config)

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels ``(b, 3, h, w)`` float in -1..1, of any size, to tokens ``(b, 1 + patches, width)``."""
        images = preprocess(pixels.float(), self.config.image_size)
        tokens: torch.Tensor = self.model(images.to(self.model.dtype)).last_hidden_state
        return tokens

    def settle(self) -> ImageTower:
        """Make what is not among the weights, which a tower built on the meta device has not got yet."""
        embeddings = self.model.embeddings
        embeddings.register_buffer(
            "position_ids", torch.arange(embeddings.num_positions)[None], persistent=False
        )
        return self


def load_image_tower(weights: Mapping[str, torch.Tensor], config: ImageTowerConfig) -> ImageTower:
    """The image tower of a released checkpoint.

    Args:
        weights: part ``image_tower`` of the checkpoint; taken over, not copied.
        config: its sizes.

    Raises:
        ImportError: transformers is not installed.
        ValueError: weights and sizes that do not fit each other.
    """
    with torch.device("meta"):
        tower = ImageTower(config)
    fill_strictly(tower.model, rename(unfused(weights), RULES, IGNORED))
    return tower.settle().eval()


def _vision_model(config: ImageTowerConfig) -> CLIPVisionModel:
    try:
        from transformers import CLIPVisionConfig, CLIPVisionModel
    except ImportError as error:
        raise ImportError(MISSING) from error
    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=config.width,
            intermediate_size=config.width * config.mlp_ratio,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            patch_size=config.patch_size,
            image_size=config.image_size,
            hidden_act="gelu",  # the exact one, where OpenAI's own models have an approximation
        )
    )


def preprocess(pixels: torch.Tensor, size: int = 224) -> torch.Tensor:
    """Pixels as the tower wants them: square whatever their aspect, and normalised per channel.

    Args:
        pixels: ``(b, 3, h, w)`` float in -1..1.
        size: pixels along the side of the result.

    Returns:
        ``(b, 3, size, size)`` float; bicubic with aligned corners, blurred first where it shrinks.
    """
    small = functional.interpolate(
        _blurred(pixels, size), size=(size, size), mode="bicubic", align_corners=True
    )
    mean, deviation = (torch.tensor(x, device=pixels.device).view(3, 1, 1) for x in (MEAN, DEVIATION))
    return (small * 0.5 + 0.5 - mean) / deviation


def _blurred(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """A Gaussian blur along each axis whose deviation is half of what that axis shrinks by beyond 1.

    An axis that does not shrink is left alone, for its deviation would be too small to have an effect.
    """
    channels = pixels.shape[1]
    for axis in (2, 3):
        sigma = (pixels.shape[axis] / size - 1.0) / 2.0
        if sigma <= 0:
            continue
        radius = max(int(4.0 * sigma), 3) // 2
        offsets = torch.arange(-radius, radius + 1, device=pixels.device, dtype=pixels.dtype)
        kernel = torch.softmax(-offsets.square() / (2 * sigma**2), dim=0)
        padding = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        padded = functional.pad(pixels, padding, mode="reflect")
        shape = (channels, 1, -1, 1) if axis == 2 else (channels, 1, 1, -1)
        weight = kernel.expand(channels, -1).reshape(shape)
        pixels = functional.conv2d(padded, weight, groups=channels)
    return pixels
