"""Parts of a world in the diffusers layout, read without a second copy of the weights in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin

from v2w_gym.weights import fill_strictly, read_weights

M = TypeVar("M", bound=ModelMixin)
WEIGHTS = "diffusion_pytorch_model.safetensors"
SCHEDULE = "scheduler/scheduler_config.json"
"""Where the noise schedule lies, beside the folder of the network that was trained with it."""


def read_module(kind: type[M], folder: str | Path, dtype: torch.dtype = torch.float32, **changes: Any) -> M:
    """A module that ``save_pretrained`` wrote.

    Args:
        kind: its class.
        folder: holds ``config.json`` and the weights.
        dtype: of the weights; each tensor is cast as it is read.
        **changes: replace values of ``config.json``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a damaged file, or weights and sizes that do not fit each other.
    """
    folder = Path(folder)
    for name in ("config.json", WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} lacks {name}; fetch the world again")
    with torch.device("meta"):
        module = kind.from_config({**kind.load_config(folder), **changes})
    weights, _ = read_weights(folder / WEIGHTS, dtype)
    torch.nn.Module.to(module, dtype)  # not diffusers' own, which warns of modules that are not there
    filled: M = fill_strictly(module, weights, folder).eval()
    return filled
