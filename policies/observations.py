"""Rows of a batched observation: how many there are, and some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def batch_of(observation: Mapping[str, Any]) -> int:
    """How many slots ``observation`` has rows for.

    Args:
        observation: arrays, tensors or lists with a leading slot axis, or mappings of such (cameras by name).

    Raises:
        ValueError: nothing in it has rows, or its entries have not equally many.
    """
    sizes = _sizes(observation, "observation")
    if len(set(sizes.values())) != 1:
        raise ValueError(
            f"an observation needs the same number of rows in every entry, got {sizes or 'none'}"
        )
    return next(iter(sizes.values()))


def _sizes(value: Any, where: str) -> dict[str, int]:
    if isinstance(value, Mapping):
        found: dict[str, int] = {}
        for key, inner in value.items():
            found |= _sizes(inner, f"{where}[{key!r}]")
        return found
    try:
        return {where: len(value)}
    except TypeError as error:
        raise ValueError(f"{where} has no slot axis: {error}") from error


def rows_of(observation: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """The given rows of every entry, in that order; arrays are copied."""
    return {key: _rows(value, list(rows)) for key, value in observation.items()}


def _rows(value: Any, rows: list[int]) -> Any:
    if isinstance(value, Mapping):
        return rows_of(value, rows)
    if isinstance(value, list | tuple):
        return [value[i] for i in rows]
    return value[rows] if hasattr(value, "shape") else np.asarray(value)[rows]
