"""The files that policies are kept in: one safetensors file each, in half precision, with notes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from v2w_gym.weights import read_weights


def write_policy(path: str | Path, tensors: Mapping[str, torch.Tensor], notes: Mapping[str, str]) -> None:
    """Write ``tensors`` as float16, and ``notes`` as the file's metadata."""
    half = {name: value.half().contiguous() for name, value in tensors.items()}
    save_file(half, str(path), metadata=dict(notes))


def read_policy(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors as float32, and the notes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no policy weights at {path}; train some with: v2w train policies")
    return read_weights(path)
