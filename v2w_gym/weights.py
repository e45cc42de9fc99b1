"""Weights from files into modules, with errors that say what is wrong and what to do."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

M = TypeVar("M", bound=nn.Module)
SHOWN = 10
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


def dtype_of(name: str) -> torch.dtype:
    """The dtype that settings call ``"fp32"`` or ``"bf16"``.

    Raises:
        ValueError: another name.
    """
    known = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if name not in known:
        raise ValueError(f'dtype must be "fp32" or "bf16", got {name!r}')
    return known[name]


def check_device(name: str) -> None:
    """Raise ``ValueError`` unless this machine and this PyTorch have the device ``name``."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        why = str(error).partition("\n")[0]
        raise ValueError(
            f'device must be "cpu" or one that PyTorch finds here, got {name!r}: {why}'
        ) from error


def read_weights(
    path: str | Path, dtype: torch.dtype | None = torch.float32
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a file.

    Args:
        path: the file.
        dtype: the tensors are cast one by one, and none stays in the mapped file: one that lies there may be
            aligned in any way, which decides what kernel runs on it. None leaves them there as they are, for
            use while the file stays.

    Raises:
        ValueError: a damaged file, or none of this format.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if dtype is not None:
                weights = {name: value.to(dtype, copy=True) for name, value in weights.items()}
            return weights, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}); fetch it again") from error


def fill_strictly(module: M, weights: Mapping[str, torch.Tensor], path: str | Path = "") -> M:
    """Make ``weights`` the weights of ``module``: all of them, nothing else, of the right shapes.

    The tensors are taken over, not copied, unless their dtype differs from the module's. So a module made
    under ``torch.device("meta")`` costs no memory of its own; buffers that a state dict leaves out must then
    be made anew on a real device.

    Returns:
        ``module``.

    Raises:
        ValueError: names that are missing or left over, or shapes that differ; the module is unchanged.
    """
    wanted = module.state_dict()
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(target.shape)}"
        for name, target in wanted.items()
        if name in weights and weights[name].shape != target.shape
    ]
    complain(
        f"the weights{' in ' if path else ''}{path} do not fit their config for {type(module).__name__}",
        {
            "missing": wanted.keys() - weights.keys(),
            "left over": weights.keys() - wanted.keys(),
            "wrong shape": shapes,
        },
    )
    cast = {name: weights[name].to(target.dtype) for name, target in wanted.items()}
    module.load_state_dict(cast, assign=True)
    return module


def write_folder(folder: str | Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write ``config.json`` and ``model.safetensors`` into ``folder``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, str(folder / _WEIGHTS))
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def find_folder(folder: str | Path, *, what: str, made_by: str) -> tuple[dict[str, Any], Path, Path]:
    """What ``write_folder`` wrote: the values of the configuration, its file, and the file of the weights.

    Args:
        folder: where they lie.
        what: lies there, for errors.
        made_by: the line that makes such a folder.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the configuration is no JSON.
    """
    config, weights = Path(folder) / _CONFIG, Path(folder) / _WEIGHTS
    for file in (config, weights):
        if not file.is_file():
            raise FileNotFoundError(
                f"the {what} in {folder} lacks {file.name}; expected {_CONFIG} and {_WEIGHTS}, "
                f"as written by: {made_by}"
            )
    try:
        return json.loads(config.read_text()), config, weights
    except ValueError as error:
        raise ValueError(f"{config} is not JSON: {error}") from error


def complain(heading: str, faults: Mapping[str, Collection[str]]) -> None:
    """Raise a ValueError that lists the first faults of each kind and counts the rest, if there are any."""
    lines = []
    for kind, names in faults.items():
        if names:
            more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append(f"  {kind} ({len(names)}): {', '.join(sorted(names)[:SHOWN])}{more}")
    if lines:
        raise ValueError("\n".join([heading, *lines]))
