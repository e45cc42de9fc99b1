"""The released image autoencoder (KL, factor 8, of latent diffusion) as a diffusers ``AutoencoderKL``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL

from v2w_gym.weights import fill_strictly
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.released.rename import rename


@dataclass(frozen=True)
class Layers:
    """``ddconfig`` of the released yaml, under its names.

    Attributes:
        z_channels: latent channels.
        ch: channels of the first level.
        ch_mult: channels of each level, as multiples of ``ch``; each level but the last halves the image.
        num_res_blocks: residual blocks per level of the encoder; the decoder has one more.
        in_channels: image channels in.
        out_ch: image channels out.
        double_z: whether the encoder gives a variance too; always.
        attn_resolutions: levels with attention besides the middle; none.
        resolution: image size of its training; of no effect.
        dropout: of no effect outside its training.
    """

    z_channels: int
    ch: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int
    in_channels: int = 3
    out_ch: int = 3
    double_z: bool = True
    attn_resolutions: tuple[int, ...] = ()
    resolution: int = 256
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not self.double_z or self.attn_resolutions:
            raise ValueError(
                "ddconfig must have double_z true and no attn_resolutions, as all released models do; "
                f"got {self.double_z} and {self.attn_resolutions}"
            )


@dataclass(frozen=True)
class AutoencoderConfig:
    """``first_stage_config.params`` of the released yaml, under its names.

    Attributes:
        embed_dim: channels of the latents, equal to ``ddconfig.z_channels``.
        ddconfig: the layers.
        monitor: read by its trainer only.
        lossconfig: likewise.
    """

    embed_dim: int
    ddconfig: Layers
    monitor: str = ""
    lossconfig: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.embed_dim != self.ddconfig.z_channels:
            raise ValueError(
                "embed_dim must equal ddconfig.z_channels, "
                f"got {self.embed_dim} and {self.ddconfig.z_channels}"
            )


def rules(levels: int) -> list[tuple[str, str]]:
    """Names of an autoencoder with that many levels, in the words of diffusers."""
    side = r"(encoder|decoder)\."
    table = [
        (r"(quant_conv|post_quant_conv)\.(\w+)", r"\1.\2"),
        (side + r"(conv_in|conv_out)\.(\w+)", r"\1.\2.\3"),
        (side + r"norm_out\.(\w+)", r"\1.conv_norm_out.\2"),
        (side + r"mid\.attn_1\.norm\.(\w+)", r"\1.mid_block.attentions.0.group_norm.\2"),
        (side + r"mid\.attn_1\.([qkv])\.(\w+)", r"\1.mid_block.attentions.0.to_\2.\3"),
        (side + r"mid\.attn_1\.proj_out\.(\w+)", r"\1.mid_block.attentions.0.to_out.0.\2"),
        (r"encoder\.down\.(\d+)\.downsample\.(.+)", r"encoder.down_blocks.\1.downsamplers.0.\2"),
        *_residual(side + r"mid\.block_1", r"\1.mid_block.resnets.0"),
        *_residual(side + r"mid\.block_2", r"\1.mid_block.resnets.1"),
        *_residual(r"(encoder)\.down\.(\d+)\.block\.(\d+)", r"\1.down_blocks.\2.resnets.\3"),
    ]
    for level in range(levels):  # counted from the image here, from the latent there
        there = levels - 1 - level
        table += _residual(rf"decoder\.up\.{level}\.block\.(\d+)", rf"decoder.up_blocks.{there}.resnets.\1")
        table.append(
            (rf"decoder\.up\.{level}\.upsample\.(.+)", rf"decoder.up_blocks.{there}.upsamplers.0.\1")
        )
    return table


def _residual(pattern: str, target: str) -> list[tuple[str, str]]:
    """Rules for the layers of one kind of residual block."""
    return [
        (rf"{pattern}\.(?P<layer>(norm|conv)[12]\.\w+)", rf"{target}.\g<layer>"),
        (rf"{pattern}\.nin_shortcut\.(?P<layer>\w+)", rf"{target}.conv_shortcut.\g<layer>"),
    ]


def build(config: AutoencoderConfig, scaling_factor: float = 0.18215) -> AutoencoderKL:
    """The layers of a released codec, not yet trained; arguments as of ``load_autoencoder``."""
    layers = config.ddconfig
    levels = len(layers.ch_mult)
    return AutoencoderKL(
        in_channels=layers.in_channels,
        out_channels=layers.out_ch,
        latent_channels=layers.z_channels,
        block_out_channels=tuple(layers.ch * factor for factor in layers.ch_mult),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=layers.num_res_blocks,
        sample_size=layers.resolution,
        scaling_factor=scaling_factor,
    )


def load_autoencoder(
    weights: Mapping[str, torch.Tensor], config: AutoencoderConfig, scaling_factor: float = 0.18215
) -> FrameCodec:
    """The codec of a released checkpoint.

    Args:
        weights: part ``autoencoder`` of the checkpoint; taken over, not copied.
        config: its sizes.
        scaling_factor: ``scale_factor`` of the released yaml; latents are multiplied by it.

    Raises:
        ValueError: weights and sizes that do not fit each other.
    """
    with torch.device("meta"):
        vae = build(config, scaling_factor)
    named = rename(weights, rules(len(config.ddconfig.ch_mult)))
    flat = {
        name: value.flatten(1) if ".attentions." in name and value.ndim == 4 else value  # 1x1 kernels
        for name, value in named.items()
    }
    return FrameCodec(fill_strictly(vae, flat).eval())
