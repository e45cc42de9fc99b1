"""States in files: one safetensors file holds a state, arrays that belong to it, and facts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tensordict import TensorDict

from v2w_gym.world_model.state import WorldState

_SEPARATOR = "|"  # keys of layers hold slashes
_STATE, _BESIDE, _FACTS = "state/", "beside/", "snapshot"


def save_state(
    path: str | Path, state: WorldState, beside: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]
) -> None:
    """Write a file that ``load_state`` reads.

    Args:
        path: of the file.
        state: may live on any device.
        beside: arrays by name.
        facts: plain JSON values.
    """
    flat = state.to_tensordict().flatten_keys(_SEPARATOR)  # type: ignore[attr-defined]  # tensorclass adds it
    tensors = {_STATE + name: value.contiguous().cpu() for name, value in flat.items()}
    tensors |= {_BESIDE + name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in beside.items()}
    save_file(tensors, path, metadata={_FACTS: json.dumps(facts)})


def load_state(path: str | Path) -> tuple[WorldState, dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """State on the CPU, arrays and facts.

    Raises:
        ValueError: a damaged file, or something else.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {})[_FACTS])
            held = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no snapshot ({error}); save it again") from error

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)}

    flat = part(_STATE)
    batch = [len(flat["seed"])]
    tree = TensorDict(dict(flat), batch_size=batch).unflatten_keys(_SEPARATOR)
    for name in ("cache", "context"):  # an empty one leaves no tensor behind
        if name not in tree.keys():  # noqa: SIM118
            tree[name] = TensorDict({}, batch_size=batch)
    state: WorldState = WorldState.from_tensordict(tree)  # type: ignore[attr-defined]
    return state, {name: value.numpy() for name, value in part(_BESIDE).items()}, facts
