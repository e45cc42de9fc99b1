"""The figures as one picture: four panels, of which those are drawn whose section was run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from engine.latency import FRAMES
from engine.layers import PARTS, key_of

_INK, _FAINT, _LINE = "#24292f", "#57606a", "#d0d7de"
_BLUES = ("#9ecbff", "#1f6feb", "#0b3b8c")  # light to dark: fewer to more
_WARM = "#d4661f"


def draw(path: Path, figures: Mapping[str, float], subtitle: str) -> None:
    """Write a PNG file.

    Args:
        path: the file.
        figures: as the sections give them.
        subtitle: what was measured, and on which machine.
    """
    figure = Figure(figsize=(11, 8.2), dpi=100)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2, 2, left=0.075, right=0.975, top=0.85, bottom=0.075, wspace=0.33, hspace=0.42
    )
    for i, (key, panel) in enumerate(PANELS.items()):
        axes = figure.add_subplot(grid[i])
        _style(axes)
        if key in figures:
            panel(axes, figures)
        else:
            axes.text(0.5, 0.5, "not measured", ha="center", color=_FAINT, transform=axes.transAxes)
    figure.text(0.075, 0.955, "What a step of the world model costs", fontsize=15, weight="bold", color=_INK)
    figure.text(0.075, 0.925, subtitle, fontsize=9.5, color=_FAINT)
    figure.savefig(path)


def _style(axes: Axes) -> None:
    axes.grid(color="#eaeef2", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT, length=0, labelsize=9)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_LINE)


def _titled(axes: Axes, title: str, x: str, y: str = "") -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_INK, weight="bold", pad=10)
    axes.set_xlabel(x, fontsize=9.5, color=_FAINT)
    axes.set_ylabel(y, fontsize=9.5, color=_FAINT)


def _ticks(axes: Axes, values: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{v:,}" for v in values])
    axes.minorticks_off()


def _curve(
    axes: Axes, points: Mapping[int, float], colour: str, label: str = "", linestyle: str = "-"
) -> None:
    xs = sorted(points)
    axes.plot(
        xs,
        [points[x] for x in xs],
        marker="o",
        color=colour,
        linewidth=1.8,
        markersize=5,
        label=label,
        linestyle=linestyle,
    )


def _limit(axes: Axes, y: float, x: float, text: str) -> None:
    axes.axhline(y, color=_WARM, linewidth=1, zorder=0)
    axes.annotate(text, (x, y), xytext=(0, 3), textcoords="offset points", fontsize=8, color=_WARM)


def _streaming(axes: Axes, figures: Mapping[str, float]) -> None:
    _titled(axes, "Streaming is this many times faster than recomputing", "window, frames")
    places = [k.split("_") for k in figures if k.startswith("recompute_over_cached_window_")]
    windows, steps, batches = (sorted({int(p[i]) for p in places}) for i in (4, 6, 8))
    shown = {1: "--", 32: "-"}
    for colour, count in zip(_BLUES[-len(steps) :], steps, strict=True):
        for batch in [b for b in batches if b in shown]:
            at = f"steps_{count}_batch_{batch}_ratio"
            ratios = {w: figures[f"recompute_over_cached_window_{w}_{at}"] for w in windows}
            plural = "s" if count > 1 else ""
            label = f"{count} denoising step{plural}, batch {batch}"
            _curve(axes, ratios, colour, label, linestyle=shown[batch])
    _limit(axes, 8, windows[0], "8 times")
    _ticks(axes, windows)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False, labelcolor=_INK, handlelength=3.2)


def _latency(axes: Axes, figures: Mapping[str, float]) -> None:
    _titled(axes, "A step costs the same however old the episode is", "frame of the episode", "step, ms")
    _curve(axes, {frame: figures[f"step_frame_{frame}_ms"] for frame in FRAMES}, _BLUES[1])
    _ticks(axes, [f for f in FRAMES if f != 500])
    axes.set_ylim(0, 1.5 * max(figures[f"step_frame_{frame}_ms"] for frame in FRAMES))
    told = f"frame 1,000 over frame 10: {figures['step_frame_1000_over_10_ratio']:.3f}"
    axes.text(0.03, 0.06, told, fontsize=9, color=_INK, transform=axes.transAxes)


def _throughput(axes: Axes, figures: Mapping[str, float]) -> None:
    _titled(axes, "Many slots in one batch", "slots (batch)", "environment steps per second")
    rates = {int(k.split("_")[3]): v for k, v in figures.items() if k.endswith("_per_s") and k[:4] == "env_"}
    _curve(axes, rates, _BLUES[1])
    _ticks(axes, list(rates))
    ratio = figures["env_steps_batch_32_over_1_ratio"]
    told = f"32 slots over one: {ratio:.1f} times"
    axes.text(0.97, 0.06, told, fontsize=9, color=_INK, ha="right", transform=axes.transAxes)
    top = max(rates.values())
    if "env_step_batch_32_ms" in figures:
        seconds = figures["env_step_batch_32_ms"] * figures["env_step_batch_32_matrix_rate_percent"] / 1e5
        top = 32 / seconds
        _limit(axes, top, 1, "if all of it ran at the rate of a large matrix product")
    axes.set_ylim(0, 1.15 * max(top, *rates.values()))


def _layers(axes: Axes, figures: Mapping[str, float]) -> None:
    _titled(axes, "Where the time of an environment step goes", "share of the step, percent")
    names = sorted(PARTS, key=lambda part: figures[f"time_{key_of(part)}_batch_32_ms"])
    for batch, colour, shift in ((1, _BLUES[0], 0.2), (32, _BLUES[1], -0.2)):
        whole = figures[f"time_whole_batch_{batch}_ms"]
        parts = [figures[f"time_{key_of(part)}_batch_{batch}_ms"] for part in names]
        places = [i + shift for i in range(len(names))]
        label = f"batch {batch}: {whole:.0f} ms"
        axes.barh(places, [100 * ms / whole for ms in parts], height=0.38, color=colour, label=label)
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.grid(visible=False, axis="y")
    axes.legend(fontsize=8.5, frameon=False, loc="lower right", labelcolor=_INK)


PANELS: dict[str, Callable[[Axes, Mapping[str, float]], None]] = {
    "recompute_over_cached_batch_32_ratio": _streaming,
    "step_frame_10_ms": _latency,
    "env_steps_batch_1_per_s": _throughput,
    "time_whole_batch_1_ms": _layers,
}
"""Each with a figure of the section that it shows."""
