"""Half precision by autocast: what CUDA's autocast does for group normalisation, on every device."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import nn

Precision: TypeAlias = Literal["fp32", "bf16"]


def running_in(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a network with float32 weights runs in ``precision`` on ``device``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def norms_in_single_precision(network: nn.Module) -> None:
    """Have every GroupNorm of ``network`` take its statistics in float32 under autocast.

    CUDA's autocast does so anyway. The CPU's leaves them in half precision, which is less exact and, as torch
    2.13 computes it, takes three times as long as the cast and the single precision together.
    """
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_single)


def _single(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
    del module
    x = given[0]
    return (x.float(), *given[1:]) if torch.is_autocast_enabled(x.device.type) else None
