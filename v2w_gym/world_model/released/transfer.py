"""From the DynamiCrafter file to the layout of a causal Vid2World one, still without actions."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from v2w_gym.world_model.causalize import Transfer, transfer_function

_KERNELS = (
    (re.compile(r"(.*temopral_conv\.(?:conv1\.2|conv[234]\.3))\.(weight|bias)"), r"\1.conv3d.\2"),
    # the last convolution is two-dimensional; the public code makes its rows causal as if they were frames
    (re.compile(r"(.*\bout\.2)\.(weight|bias)"), r"\1.conv2d.\2"),
)


def transfer(
    weights: Mapping[str, torch.Tensor], mode: Transfer = "extrapolative"
) -> dict[str, torch.Tensor]:
    """Rename the layers that become causal and transform their kernels; all else stays as it is.

    Args:
        weights: of a DynamiCrafter file, under its names.
        mode: how; see :mod:`v2w_gym.world_model.causalize`.

    Raises:
        ValueError: an unknown mode.
    """
    function, causal = transfer_function(mode), {}
    for name, value in weights.items():
        renamed = next((m.expand(to) for rule, to in _KERNELS if (m := rule.fullmatch(name))), None)
        if renamed is None:
            causal[name] = value
        else:
            causal[renamed] = function(value) if name.endswith(".weight") else value
    return causal
