"""What a section of the benchmark is: how it measures, how its figures are told, and what they should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from engine.bench import Bench

Figures = dict[str, float]
Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Bar:
    """What a figure should be.

    Attributes:
        text: what the figure is.
        key: of the figure.
        least: it should be at least this.
        most: it should be at most this.
    """

    text: str
    key: str
    least: float | None = None
    most: float | None = None

    def verdict(self, figures: Mapping[str, float]) -> str:
        """One line: the bar, the figure, and whether it is met."""
        value = figures[self.key]
        met = (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
        wanted = f"at least {self.least:g}" if self.most is None else f"at most {self.most:g}"
        return f"bar: {self.text}, {wanted}: {value:.3g}, {'met' if met else 'not met'}"


@dataclass(frozen=True)
class Section:
    """A part of the benchmark.

    Attributes:
        name: for ``--only``.
        title: what it answers.
        measure: gives the figures; every key says its unit.
        rows: the table of these figures, its header first.
        bars: what figures should be.
        note: how to read the table.
    """

    name: str
    title: str
    measure: Callable[[Bench], Figures]
    rows: Callable[[Mapping[str, float]], Rows]
    bars: tuple[Bar, ...] = ()
    note: str = ""

    def report(self, figures: Mapping[str, float]) -> str:
        """Title, table, note, and each bar with its verdict."""
        told = [self.note] if self.note else []
        return "\n".join(
            [
                self.title,
                "",
                *aligned(self.rows(figures)),
                "",
                *told,
                *(b.verdict(figures) for b in self.bars),
            ]
        )


def aligned(rows: Rows) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = []
    for row in rows:
        cells = [c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=False))]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
