"""What OpenCLIP's image and text towers share: the names of a layer, and its fused projection."""

from __future__ import annotations

from collections.abc import Mapping

import torch

MISSING = 'the towers of a released checkpoint need transformers: pip install "v2w_gym[released]"'
_LAYER = r"transformer\.resblocks\.(\d+)\."
BLOCKS = [
    (_LAYER + r"ln_([12])\.(\w+)", r"encoder.layers.\1.layer_norm\2.\3"),
    (_LAYER + r"attn\.([qkv]_proj|out_proj)\.(\w+)", r"encoder.layers.\1.self_attn.\2.\3"),
    (_LAYER + r"mlp\.c_fc\.(\w+)", r"encoder.layers.\1.mlp.fc1.\2"),
    (_LAYER + r"mlp\.c_proj\.(\w+)", r"encoder.layers.\1.mlp.fc2.\2"),
]
"""To the names of transformers, for weights that ``unfused`` has been through."""


def unfused(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Split each ``attn.in_proj_*``, which stacks query, key and value along its first axis, in three."""
    parted = {}
    for name, value in weights.items():
        stem, fused, kind = name.partition("attn.in_proj_")
        if fused:
            for letter, piece in zip("qkv", value.chunk(3), strict=True):
                parted[f"{stem}attn.{letter}_proj.{kind}"] = piece
        else:
            parted[name] = value
    return parted
