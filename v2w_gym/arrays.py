"""Where results live: NumPy arrays on the host, or tensors on a device. Whatever is written in terms of
``Arrays``, indexing, comparison and assignment serves both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

Array = Any
"""A NumPy array or a tensor."""


class Arrays(Protocol):
    """One kind of array."""

    def take(self, values: Array) -> Array:
        """An array or a tensor as this kind; memory is shared where it can be."""
        ...

    def single(self, values: Array) -> Array:
        """As ``take``, but numbers with a fraction are float32 whatever the kind."""
        ...

    def copy(self, values: Array) -> Array:
        """A copy that shares nothing."""
        ...

    def stack(self, values: Sequence[Array]) -> Array:
        """Arrays of this kind ``(b, ...)`` side by side, ``(b, k, ...)``."""
        ...

    def read(self, *flags: Array) -> list[npt.NDArray[np.bool_]]:
        """Bool arrays of this kind on the host, all in one transfer."""
        ...

    def tensors(self, values: Any) -> Any:
        """A tensor, or a mapping of nothing but tensors, on this kind's device; None for anything else."""
        ...


class OnHost:
    """NumPy arrays; numbers with a fraction are float64."""

    def take(self, values: Array) -> Array:
        """See ``Arrays``."""
        array = host(values)
        return array.astype(np.float64, copy=False) if array.dtype.kind == "f" else array

    def single(self, values: Array) -> Array:
        """See ``Arrays``."""
        array = host(values)
        return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array

    def copy(self, values: Array) -> Array:
        """See ``Arrays``."""
        return values.copy()

    def stack(self, values: Sequence[Array]) -> Array:
        """See ``Arrays``."""
        return np.stack(values, axis=1)

    def read(self, *flags: Array) -> list[npt.NDArray[np.bool_]]:
        """See ``Arrays``."""
        return list(flags)

    def tensors(self, values: Any) -> Any:
        """Arrays make their way by the host."""
        del values


class OnDevice:
    """Tensors; numbers with a fraction are float32.

    Args:
        device: where.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def take(self, values: Array) -> Array:
        """See ``Arrays``."""
        tensor = torch.as_tensor(values)
        return tensor.to(self._device, torch.float32 if tensor.is_floating_point() else tensor.dtype)

    def single(self, values: Array) -> Array:
        """See ``Arrays``."""
        return self.take(values)

    def copy(self, values: Array) -> Array:
        """See ``Arrays``."""
        return values.clone()

    def stack(self, values: Sequence[Array]) -> Array:
        """See ``Arrays``."""
        return torch.stack(list(values), dim=1)

    def read(self, *flags: Array) -> list[npt.NDArray[np.bool_]]:
        """See ``Arrays``."""
        if not flags:
            return []
        lengths = [flag.numel() for flag in flags]
        together = torch.cat([flag.reshape(-1) for flag in flags]).cpu().numpy()
        return np.split(together, np.cumsum(lengths)[:-1])

    def tensors(self, values: Any) -> Any:
        """See ``Arrays``."""
        if isinstance(values, torch.Tensor):
            return values.detach().to(self._device)
        if isinstance(values, Mapping) and all(isinstance(v, torch.Tensor) for v in values.values()):
            return {name: value.detach().to(self._device) for name, value in values.items()}
        return None


class HasDevice(Protocol):
    """Anything that lives on a device."""

    @property
    def device(self) -> torch.device:
        """Where."""
        ...


def arrays_of(kind: Literal["numpy", "torch"], beside: HasDevice) -> Arrays:
    """Results as NumPy arrays, or as tensors on the device of ``beside``, which is else not asked for it."""
    return OnHost() if kind == "numpy" else OnDevice(beside.device)


def host(values: Array) -> npt.NDArray[Any]:
    """An array or a tensor as NumPy array; memory is shared where it can be."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
