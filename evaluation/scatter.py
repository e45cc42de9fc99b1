"""Imagined against real success: one point per policy, its intervals, and the diagonal of agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from v2w_gym.evaluation.labels import Box, place

_POINT, _GUIDE, _LETTERS = "#1f6feb", "#8c959f", "#24292f"
_SIZE = 8.5  # letters, points


def write_scatter(path: str | Path, entries: Sequence[Mapping[str, Any]], caption: str) -> None:
    """Draw the policies of a summary that have an imagined and a real success rate.

    Args:
        path: the PNG file.
        entries: entries of ``summary["policies"]``.
        caption: below the title, e.g. the metrics.
    """
    figure = Figure(figsize=(7.2, 7.4), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.11, 0.09, 0.85, 0.80))
    axes.plot([0, 1], [0, 1], color=_GUIDE, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for entry in entries:
        x, y = entry["real_success"], entry["success"]
        axes.errorbar(
            x,
            y,
            xerr=[[x - entry["real_low"]], [entry["real_high"] - x]],
            yerr=[[y - entry["low"]], [entry["high"] - y]],
            color=_POINT,
            ecolor="#1f6feb66",
            elinewidth=1.2,
            fmt="o",
            markersize=6.5,
            markeredgecolor="white",
            zorder=3,
        )
    _style(figure, axes, caption)
    place_labels(axes, entries)
    figure.savefig(path)


def _style(figure: Figure, axes: Axes, caption: str) -> None:
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.06), aspect="equal")
    axes.set_xlabel("real success rate", color=_LETTERS, fontsize=11)
    axes.set_ylabel("imagined success rate", color=_LETTERS, fontsize=11)
    ticks = np.linspace(0, 1, 6)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.grid(color="#eaeef2", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors="#57606a", length=0)
    for spine in axes.spines.values():
        spine.set_color("#d0d7de")
    figure.text(0.11, 0.96, "Imagined against real success", fontsize=14, weight="bold", color=_LETTERS)
    figure.text(
        0.11, 0.945, caption, fontsize=9.5, color="#57606a", va="top", linespacing=1.5, parse_math=False
    )


def place_labels(axes: Axes, entries: Sequence[Mapping[str, Any]]) -> list[Bbox]:
    """Give every point its name where there is room: off all points, error bars and other labels.

    Args:
        axes: with its limits set.
        entries: entries of ``summary["policies"]``.

    Returns:
        The room that each name takes, in pixels.
    """
    anchors = axes.transData.transform([(e["real_success"], e["success"]) for e in entries])
    diagonal = axes.transData.transform(np.repeat(np.linspace(0, 1, 100), 2).reshape(-1, 2))
    lines: list[Box] = [(x - 2, y - 2, x + 2, y + 2) for x, y in diagonal]
    lines += [bar for entry in entries for bar in _bars(axes, entry)]
    pixels = axes.figure.dpi / 72  # of a point
    sizes = [_size(axes, entry["name"]) for entry in entries]
    labels = place(anchors, sizes, lines, axes.get_window_extent().extents, pixels)
    for entry, label in zip(entries, labels, strict=True):
        axes.annotate(
            entry["name"],
            (entry["real_success"], entry["success"]),
            xytext=(label.offset[0] / pixels, label.offset[1] / pixels),
            textcoords="offset points",
            fontsize=_SIZE,
            color=_LETTERS,
            ha=label.side,
            va="center",
            zorder=4,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": _GUIDE, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4},
        )
    return [Bbox.from_extents(*label.room) for label in labels]


def _bars(axes: Axes, entry: Mapping[str, Any]) -> list[Box]:
    x, y = entry["real_success"], entry["success"]
    ends = [((entry["real_low"], y), (entry["real_high"], y)), ((x, entry["low"]), (x, entry["high"]))]
    rooms = (Bbox(axes.transData.transform(pair)).padded(1) for pair in ends)
    return [(room.x0, room.y0, room.x1, room.y1) for room in rooms]


def _size(axes: Axes, name: str) -> Any:
    text = axes.text(0, 0, name, fontsize=_SIZE, parse_math=False)
    size = text.get_window_extent().size
    text.remove()
    return size
