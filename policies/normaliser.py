"""How the numbers that a policy hands over stand for values in units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Normaliser:
    """A line per component between numbers and values.

    ============  ==========================================================================
    kind          number
    ============  ==========================================================================
    ``none``      the value itself
    ``bounds``    -1..1, which stands for the least .. greatest value, ``low``..``high``
    ``quantile``  -1..1, which stands for ``low``..``high``, the 1 % and 99 % quantiles
    ``mean_std``  ``(value - mean) / std``
    ============  ==========================================================================

    Attributes:
        kind: as above.
        low: of ``bounds`` and ``quantile``, per component, in its unit.
        high: likewise.
        mean: of ``mean_std``, likewise.
        std: likewise.
        applied: which components are normalised at all, as OpenVLA's ``mask``; empty means all.
        data: the recordings that the statistics are of, e.g. ``"bridge_orig"``; None is not stated.
        file: where the numbers stand, best with a hash, e.g. ``"dataset_statistics.json sha256:1f0e..."``.

    Raises:
        ValueError: numbers that are missing, too many, not finite or degenerate.
    """

    kind: Literal["none", "bounds", "quantile", "mean_std"] = "none"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    applied: tuple[bool, ...] = ()
    data: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        wanted = {"bounds": ("low", "high"), "quantile": ("low", "high"), "mean_std": ("mean", "std")}
        if self.kind not in ("none", *wanted):
            raise ValueError(f"normaliser kind must be none, bounds, quantile or mean_std, got {self.kind!r}")
        columns = {name: tuple(map(float, getattr(self, name))) for name in ("low", "high", "mean", "std")}
        for name, values in columns.items():
            object.__setattr__(self, name, values)
            if bool(values) != (name in wanted.get(self.kind, ())):
                needed = " and ".join(wanted.get(self.kind, ())) or "no numbers"
                raise ValueError(f"a normaliser of kind {self.kind!r} has {needed}, got {name}={values}")
        if len({len(values) for values in (*columns.values(), self.applied) if values}) > 1:
            raise ValueError(
                "a normaliser needs as many numbers of each sort as components, "
                f"got {columns | {'applied': self.applied}}"
            )
        if not all(np.isfinite(values).all() for values in columns.values()):
            raise ValueError(f"the numbers of a normaliser must be finite, got {columns}")
        gain, _ = self.line(self.count or 1)
        if not (gain > 0).all():
            raise ValueError(
                f"each low of a normaliser must lie below its high, each std above 0, got {columns}; a "
                "component that never moves is not normalised: applied=(True, ..., False)"
            )

    @property
    def count(self) -> int:
        """How many components it is for; 0 where it is for any number."""
        return len(self.low) or len(self.mean) or len(self.applied)

    def line(self, count: int) -> tuple[Floats, Floats]:
        """``gain`` and ``shift`` ``(count,)``: ``gain * number + shift`` is the value in its unit."""
        if self.kind == "none":
            return np.ones(count), np.zeros(count)
        if self.kind == "mean_std":
            gain, shift = np.array(self.std), np.array(self.mean)
        else:
            low, high = np.array(self.low), np.array(self.high)
            gain, shift = (high - low) / 2, (high + low) / 2
        applied = np.array(self.applied or [True] * count, dtype=np.bool_)
        return np.where(applied, gain, 1.0), np.where(applied, shift, 0.0)

    def agrees(self, other: Normaliser, count: int) -> bool:
        """Whether equal numbers mean equal values."""
        pairs = zip(self.line(count), other.line(count), strict=True)
        return all(np.allclose(one, two, rtol=1e-5, atol=1e-9) for one, two in pairs)

    def take(self, order: Sequence[int]) -> Normaliser:
        """The same for components in another order, ``order[i]`` being the old place of component i."""
        columns = {name: getattr(self, name) for name in ("low", "high", "mean", "std", "applied")}
        moved = {name: tuple(column[i] for i in order) for name, column in columns.items() if column}
        return Normaliser(self.kind, **moved, data=self.data, file=self.file)

    def __str__(self) -> str:
        shown = {name: getattr(self, name) for name in ("low", "high", "mean", "std")}
        numbers = "".join(f", {name} {_short(column)}" for name, column in shown.items() if column)
        return f"{self.kind}{numbers}" + (f" ({self.file})" if self.file else "")


def _short(column: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in column) + ")"
