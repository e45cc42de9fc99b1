"""The released UNet as a configuration of ``VideoUNet``: sizes from the yaml, keys by a rename table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from v2w_gym.config import from_dict

_RESIDUAL = (
    (r"in_layers\.0", "resnet.norm1"),
    (r"in_layers\.2", "resnet.conv1"),
    (r"emb_layers\.1", "resnet.time_emb_proj"),
    (r"out_layers\.0", "resnet.norm2"),
    (r"out_layers\.3", "resnet.conv2"),
    (r"skip_connection", "resnet.conv_shortcut"),
    *((rf"temopral_conv\.conv{n}\.0", f"temporal_conv.norms.{n - 1}") for n in range(1, 5)),
    *(
        # the first of the four has no dropout before its convolution
        (rf"temopral_conv\.conv{n}\.{2 if n == 1 else 3}(?:\.conv3d)?", f"temporal_conv.convs.{n - 1}")
        for n in range(1, 5)
    ),
)
_TRANSFORMER = (
    (r"(norm|proj_in|proj_out)", r"\1"),
    (r"transformer_blocks\.0\.(norm[123])", r"\1"),
    (r"transformer_blocks\.0\.(attn[12])\.(to_q|to_k|to_v|to_k_ip|to_v_ip)", r"\1.\2"),
    (r"transformer_blocks\.0\.(attn[12])\.to_out\.0", r"\1.to_out"),
    (r"transformer_blocks\.0\.ff\.net\.0\.proj", "ff.net.0.proj"),
    (r"transformer_blocks\.0\.ff\.net\.2", "ff.net.2"),
)

_READ = {  # names in the yaml and the only values that the public code and its weights know
    "use_linear": True,
    "temporal_conv": True,
    "temporal_attention": True,
    "temporal_selfatt_only": True,
    "use_relative_position": False,
    "use_causal_attention": True,
    "transformer_depth": 1,
    "image_cross_attention": True,
    "image_cross_attention_scale_learnable": False,
    "tempspatial_aware": False,
    "action_emb": True,
    "use_scale_shift_norm": False,
    "resblock_updown": False,
    "conv_resample": True,
    "dims": 2,
}
_UNUSED = {"target", "dropout", "use_checkpoint", "use_fp16"}


@dataclass(frozen=True)
class UnetParams:
    """What is left of ``unet_config.params``: the sizes, under their names in the yaml.

    Attributes:
        attention_resolutions: by how much a level that attends is smaller than the first.
        addition_attention: whether a transformer over time follows the first convolution.
        fs_condition: whether frames per second are read.
        default_fs: where none are given.
        temporal_length: frames of a clip.
    """

    in_channels: int
    out_channels: int
    model_channels: int
    channel_mult: tuple[int, ...]
    attention_resolutions: tuple[int, ...]
    num_res_blocks: int
    num_head_channels: int
    context_dim: int
    action_dim: int = 13
    addition_attention: bool = False
    fs_condition: bool = False
    default_fs: int = 4
    temporal_length: int = 16


def unet_config(params: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``VideoUNet`` from ``unet_config.params`` of a released yaml.

    Raises:
        ValueError: a setting that no released model has, an unknown one, or a missing one.
    """
    given = {name: value for name, value in params.items() if name not in _UNUSED}
    for name, value in _READ.items():
        if given.pop(name, value) != value:
            raise ValueError(f"unet_config.params.{name} must be {value!r}, got {params[name]!r}")
    sizes = from_dict(UnetParams, given, "unet_config.params")
    if sizes.in_channels != 2 * sizes.out_channels:
        raise ValueError(
            f"in_channels must be twice out_channels ({sizes.out_channels}): latent and first frame"
        )
    return {
        "latent_channels": sizes.out_channels,
        "action_dim": sizes.action_dim,
        "action_encoding": "table" if sizes.action_dim == 51 else "mlp",  # CS:GO's keys, clicks, mouse bins
        "block_out_channels": [sizes.model_channels * factor for factor in sizes.channel_mult],
        "attention_levels": [
            2**level in sizes.attention_resolutions for level in range(len(sizes.channel_mult))
        ],
        "layers_per_block": sizes.num_res_blocks,
        "temporal_conv_layers": 4,
        "attention_head_dim": sizes.num_head_channels,
        "norm_num_groups": 32,
        "resnet_time_scale_shift": "default",
        "window": sizes.temporal_length,
        "causal": True,
        "temporal_norm": "clip",
        "cross_attention_dim": sizes.context_dim,
        "initial_attention_heads": 8 if sizes.addition_attention else 0,
        "fps_condition": sizes.fs_condition,
        "default_fps": sizes.default_fs,
        "height_causal_out": True,
    }


def unet_rules(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rules from the names of the part ``unet`` (see ``parts.split``) to ``VideoUNet``'s, for ``rename``."""
    ends = [
        (r"time_embed\.0", "time_embedding.linear_1"),
        (r"time_embed\.2", "time_embedding.linear_2"),
        (r"fps_embedding\.0", "fps_embedding.linear_1"),
        (r"fps_embedding\.2", "fps_embedding.linear_2"),
        (r"input_blocks\.0\.0", "conv_in"),
        (r"out\.0", "norm_out"),
        (r"out\.2(?:\.conv2d)?", "conv_out"),
    ]
    if config["action_encoding"] == "table":
        ends += [("action_emb_preprocess", "action_encoder.layers.0")]
        ends += [(rf"action_emb_proj\.{n}", f"action_encoder.layers.{n + 2}") for n in (0, 2)]
    else:
        ends += [(rf"action_emb_proj\.{n}", f"action_encoder.layers.{n}") for n in (0, 2, 4)]
    ends += [(rf"init_attn\.0\.{a}", f"initial_attention.{b}") for a, b in _TRANSFORMER]
    ends += list(_blocks(config))
    return [(rf"{a}\.(?P<end>weight|bias)", rf"{b}.\g<end>") for a, b in ends]


def _blocks(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    attention, layers = config["attention_levels"], config["layers_per_block"]
    levels, place = len(attention), 1
    for level in range(levels):
        for layer in range(layers):
            yield from _block(rf"input_blocks\.{place}", f"down.{level}.{layer}", attention[level])
            place += 1
        if level < levels - 1:
            yield rf"input_blocks\.{place}\.0\.op", f"downsample.{level}.conv"
            place += 1
    yield from _block(r"middle_block", "middle.0", attention=True)
    yield from ((rf"middle_block\.3\.{a}", f"middle.1.{b}") for a, b in _RESIDUAL)
    place = 0
    for up, level in enumerate(reversed(range(levels))):
        for layer in range(layers + 1):
            yield from _block(rf"output_blocks\.{place}", f"up.{up}.{layer}", attention[level])
            place += 1
        if level > 0:
            yield rf"output_blocks\.{place - 1}\.{3 if attention[level] else 1}\.conv", f"upsample.{up}.conv"


def _block(source: str, target: str, attention: bool) -> Iterator[tuple[str, str]]:
    yield from ((rf"{source}\.0\.{a}", f"{target}.{b}") for a, b in _RESIDUAL)
    if attention:
        yield from ((rf"{source}\.1\.{a}", f"{target}.spatial_attention.{b}") for a, b in _TRANSFORMER)
        yield from ((rf"{source}\.2\.{a}", f"{target}.temporal_attention.{b}") for a, b in _TRANSFORMER)


def unet_tensor(name: str, value: torch.Tensor) -> torch.Tensor:
    """The tensor of the key ``name`` of ``VideoUNet`` from the released one, where the shape differs.

    The first transformer projects by convolutions of kernel 1, and the table of actions is an embedding,
    whose rows are the columns of a linear layer.
    """
    if name in ("initial_attention.proj_in.weight", "initial_attention.proj_out.weight"):
        return value.squeeze(-1)
    if name == "action_encoder.layers.0.weight" and value.shape[0] == 51:
        return value.T
    return value
