"""Safetensors files, read with errors that say what is wrong and what to do."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn


def read_weights(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors (float32) and metadata of a file.

    Raises:
        ValueError: a damaged file, or none of this format.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            return weights, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}); fetch it again") from error


def fill(module: nn.Module, weights: dict[str, torch.Tensor], path: str | Path) -> None:
    """Put the weights read from ``path`` into ``module``.

    Raises:
        ValueError: names or shapes that do not fit.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit their config: {error}") from error
