"""What a piece of work needs in memory, measured on one row of a batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts, inside a ``with`` block, the bytes of tensors that were made in it and are still alive.

    Scratch space that an operation has freed before it returns is not seen.

    Args:
        weights: what is made of these alone, such as a copy in another dtype, is needed once and not for
            every row.

    Attributes:
        course: after every operation, the bytes that are needed once and the bytes of rows.
    """

    def __init__(self, weights: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.course: list[tuple[int, int]] = []
        self._once = {weight.untyped_storage()._cdata for weight in weights}
        self._alive: set[int] = set()
        self._bytes = {True: 0, False: 0}  # by whether they are needed once

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        once = bool(given) and given <= self._once
        for storage in _storages(result):
            key, size = storage._cdata, storage.nbytes()
            if key in given or key in self._alive:
                continue
            self._alive.add(key)
            self._bytes[once] += size
            if once:
                self._once.add(key)
            weakref.finalize(storage, self._forget, key, size, once)
        self.course.append((self._bytes[True], self._bytes[False]))
        return result

    def _forget(self, key: int, size: int, once: bool) -> None:
        self._alive.discard(key)
        self._once.discard(key)
        self._bytes[once] -= size


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor):
            yield leaf.untyped_storage()


@dataclass(frozen=True)
class Need:
    """Working memory of a piece of work on rows of a batch, over its course.

    Attributes:
        moments: bytes that are needed once, and bytes for each row.
    """

    moments: tuple[tuple[int, int], ...]

    def of(self, rows: int) -> int:
        """Bytes at the worst moment."""
        return max(once + rows * each for once, each in self.moments)

    def rows(self, free: float) -> int:
        """How many fit into ``free`` bytes, 0 or more."""
        return max(0, min(int((free - once) // each) for once, each in self.moments if each))

    @property
    def per_row(self) -> int:
        """Bytes that a row adds to a large batch."""
        return max(each for _, each in self.moments)


@torch.no_grad()
def measure(work: Callable[[], object], weights: Iterable[torch.Tensor] = ()) -> Need:
    """Do ``work`` on one row and keep only how much memory it took."""
    with LiveBytes(weights) as live:
        work()
    worst: list[tuple[int, int]] = []  # moments at which nothing else is worse in both
    for once, each in sorted(set(live.course), reverse=True):
        if not worst or each > worst[-1][1]:
            worst.append((once, each))
    return Need(tuple(worst))


def readable(count: float) -> str:
    """Bytes for a person, to three digits."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1000 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
