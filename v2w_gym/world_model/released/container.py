"""A checkpoint file to a dict of tensors, whatever trainer wrote it; no file may run code here."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from v2w_gym.weights import read_weights

WRAPPERS = ("state_dict", "module")  # where Lightning and DeepSpeed keep the weights
DEEPSPEED_PREFIX = "_forward_module."
ZIP, PICKLE, LFS = b"PK\x03\x04", b"\x80", b"version https://git-lfs"
CLEAN = (
    "Take a copy saved as safetensors; or, if you trust its maker as you would a program's, load it in an "
    'environment of its own and save the weights alone: torch.save({"state_dict": weights}, "clean.ckpt")'
)


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by name, on the CPU.

    Reads Lightning files (under ``state_dict``), DeepSpeed files (under ``module``, each name prefixed), a
    bare dict of tensors, and safetensors. Files are mapped into memory and read where they are used: leave
    them alone while their tensors live. Tensors keep the file's dtype.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is cut short, of another kind, holds no tensors, or might run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file at {path}")
    if path.suffix == ".safetensors":
        weights: Mapping[str, torch.Tensor] = read_weights(path, dtype=None)[0]
    else:
        weights = _tensors(_unpickle(path), path)
    if not weights:
        raise ValueError(f"{path} holds no tensors")
    return {name.removeprefix(DEEPSPEED_PREFIX): value for name, value in weights.items()}


def _unpickle(path: Path) -> Any:
    """What a file of torch holds, restricted to tensors and plain values."""
    _check_kind(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        asked = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if not asked:
            raise ValueError(f"{path} is damaged ({_first_line(error)}); fetch it again") from error
        raise ValueError(
            f"{path} is refused: besides tensors it asks to run {', '.join(sorted(asked))}. {CLEAN}"
        ) from error
    except RuntimeError as error:
        raise ValueError(
            f"{path} is damaged or no checkpoint ({_first_line(error)}); fetch it again"
        ) from error


def _check_kind(path: Path) -> None:
    """See that the file is a whole zip archive, which torch writes since version 1.6."""
    with path.open("rb") as file:
        head = file.read(len(LFS))
    if head.startswith(ZIP):
        if not zipfile.is_zipfile(path):  # looks for the table of contents, which comes last
            raise ValueError(f"{path} is cut short: its end is missing; fetch it again")
    elif head.startswith(PICKLE):
        raise ValueError(f"{path} is refused: it is a bare pickle, which may run anything. {CLEAN}")
    elif head == LFS:
        raise ValueError(f"{path} is a Git LFS pointer, not the weights themselves: run git lfs pull")
    else:
        raise ValueError(
            f"{path} is no checkpoint: expected .safetensors or a file of torch.save, it begins with {head!r}"
        )


def _tensors(content: Any, path: Path) -> dict[str, torch.Tensor]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict of tensors")
    for wrapper in WRAPPERS:
        inner = content.get(wrapper)
        if isinstance(inner, Mapping):
            content = inner
            break
    weights = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not weights:
        raise ValueError(f"{path} holds no tensors, only the entries {list(map(str, content))[:10]}")
    return weights


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
