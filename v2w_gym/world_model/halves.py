"""Half precision by autocast: what CUDA's autocast does for group normalisation, on every device."""

from __future__ import annotations

import functools
import warnings
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

Precision: TypeAlias = Literal["fp32", "bf16"]


def running_in(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a network with float32 weights runs in ``precision`` on ``device``.

    Half precision is asked for because it is faster. A CPU that cannot multiply bfloat16 is many times slower
    with it, so there it is single precision after all, and a warning says so once.
    """
    half = precision == "bf16" and (device.type != "cpu" or _cpu_gains())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


@functools.cache
def _cpu_gains() -> bool:
    """Whether this CPU has instructions with which half precision is worth it."""
    gains = torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if not gains:
        warnings.warn(
            "this CPU has no fast bfloat16 arithmetic, so what was asked for in bf16 is computed in fp32",
            stacklevel=3,
        )
    return gains


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
