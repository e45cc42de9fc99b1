"""Work on the rows of a batch in parts, where all at once would not fit into memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import torch
from torch import nn

from v2w_gym.world_model import memory
from v2w_gym.world_model.footprint import Need, measure

USABLE = 0.9  # of the free memory: other programs want some, too
# Beside tensors there are gaps in the C library's heap: resident memory was seen to grow by 1.3 to 1.8 times
# the tensors of a pass, in half precision by 3.5 times. On a card convolutions take scratch space.
OVERHEAD = {"cpu": 3.5, "cuda": 1.25}


def overhead(device: torch.device) -> float:
    """What to multiply the bytes of working tensors by."""
    return OVERHEAD.get(device.type, max(OVERHEAD.values()))


def rows_at_once(need: Need, rows: int, free: float, device: torch.device, most: int = sys.maxsize) -> int:
    """How many of ``rows`` to work on at once with ``free`` bytes, in equal parts; 0 if not even one fits."""
    most = min(most, rows, need.rows(free / overhead(device)))
    return math.ceil(rows / math.ceil(rows / most)) if most else 0


def in_parts(
    rows: int, at_once: int, work: Callable[[slice], object], undo: Callable[[slice], object] | None = None
) -> int:
    """Do ``work`` on slices of ``range(rows)``; a part that does not fit on the card is done in two halves.

    Args:
        rows: of the batch.
        at_once: of a part at most.
        work: may fail with PyTorch's ``OutOfMemoryError``.
        undo: is called before the halves are tried; None where failed work leaves nothing behind.

    Returns:
        How many rows the last parts had at most.

    Raises:
        MemoryError: not even one row fits.
    """
    done = 0
    while done < rows:
        part = slice(done, min(done + at_once, rows))
        if _fits(work, part):
            done = part.stop
        elif part.stop - done == 1:
            raise MemoryError(
                "the card's memory does not even take one slot; free some, or take a smaller world or "
                'half precision: dtype="bf16"'
            )
        else:
            at_once = math.ceil((part.stop - done) / 2)
            if undo is not None:
                undo(part)
    return at_once


def _fits(work: Callable[[slice], object], part: slice) -> bool:
    try:
        work(part)
    except torch.OutOfMemoryError:
        return False  # by now the error is gone, and with it the tensors that its traceback held
    return True


class Chunks:
    """Applies a function of rows to as many rows at once as memory allows.

    Args:
        most: rows at once at most.
        module: whose weights the function uses; see ``LiveBytes``.
    """

    def __init__(self, most: int, module: nn.Module | None = None) -> None:
        self._most, self._module = most, module
        self._needs: dict[tuple[object, ...], Need] = {}

    def need(self, name: str, work: Callable[[slice], object], like: torch.Tensor) -> Need:
        """What ``work`` takes for rows like those of ``like``; done once on the first one to find out."""
        autocast = torch.is_autocast_enabled(like.device.type)
        kind = (name, like.shape[1:], like.dtype, like.device, autocast)
        if kind not in self._needs:
            weights = () if self._module is None else self._module.parameters()
            self._needs[kind] = measure(lambda: work(slice(0, 1)), weights)
        return self._needs[kind]

    def apply(self, name: str, work: Callable[[slice], torch.Tensor], like: torch.Tensor) -> torch.Tensor:
        """All rows of ``work``, which gives those of a slice.

        Args:
            name: of the kind of work.
            work: needs as much memory for each row as for any other.
            like: has as many rows; work on rows of the same shape, dtype and device needs the same memory.

        Raises:
            MemoryError: not even one row fits on the card.
        """
        rows = len(like)
        if rows < 2:
            return work(slice(0, rows))
        need, free = self.need(name, work, like), USABLE * memory.free_bytes(like.device)
        at_once = rows_at_once(need, rows, free, like.device, self._most)
        done: list[torch.Tensor] = []
        in_parts(rows, max(1, at_once), lambda part: done.append(work(part)))
        return done[0] if len(done) == 1 else torch.cat(done)
