"""Infos out of facts, which are arrays with a leading slot axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from v2w_gym.arrays import Array


class Entries(np.ndarray):
    """An object array of one entry per slot: texts, or last observations.

    Gymnasium's array conversions, e.g. ``NumpyToTorch``, know arrays of numbers alone; of these they convert
    the entries one by one and leave texts as they are.
    """


def entries(values: Iterable[Any]) -> Entries:
    """One entry per slot."""
    rows = list(values)
    array = np.full(len(rows), None, dtype=np.object_)
    for i, value in enumerate(rows):
        array[i] = value
    return array.view(Entries)


try:
    from gymnasium.wrappers.array_conversion import array_conversion
except (ImportError, gymnasium.error.DependencyNotInstalled):
    pass  # without array-api-compat there are no conversions
else:

    @array_conversion.register
    def _converted(value: Entries, xp: Any, device: Any = None) -> Entries:
        return entries(
            entry if entry is None or isinstance(entry, str) else array_conversion(entry, xp, device)
            for entry in value
        )


def info_of(facts: Mapping[str, Array], slot: int) -> dict[str, Any]:
    """The facts of one slot as plain Python values."""
    own = {key: values[slot] for key, values in facts.items()}
    return {key: value if isinstance(value, str) else value.item() for key, value in own.items()}


def infos_of(facts: Mapping[str, Array], slots: Sequence[int]) -> dict[str, Any]:
    """The facts of some slots, each beside a mask that says of which.

    Args:
        facts: the arrays are taken over.
        slots: whose facts to tell; the others get zeros, or None where a fact is no number.

    Returns:
        What ``VectorEnv._add_info`` makes of one info per slot.
    """
    infos: dict[str, Any] = {}
    for key, values in facts.items():
        mask = mask_of(slots, len(values))
        others = np.flatnonzero(~mask).tolist()
        if others:
            values[others] = None if values.dtype == np.object_ else 0
        infos[key], infos[f"_{key}"] = values, mask
    return infos


def mask_of(slots: Sequence[int], count: int) -> Any:
    """``(count,)`` bool, True at ``slots``."""
    mask = np.zeros(count, np.bool_)
    mask[list(slots)] = True
    return mask
