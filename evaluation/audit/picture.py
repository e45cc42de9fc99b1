"""One picture of an audit: verdicts, curves over the horizon, what the reader read, and frames to look at."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from v2w_gym.evaluation.audit.evidence import Evidence
from v2w_gym.evaluation.audit.text import shown

_REAL, _IMAGINED, _GUIDE, _LETTERS, _FAINT = "#57606a", "#1f6feb", "#8c959f", "#24292f", "#57606a"
_VERDICTS = {"pass": "#1a9440", "fail": "#bf2a2a", "not run": "#8c959f"}
_COLUMNS = 9  # frames of the episode that is shown


def write_picture(path: str | Path, report: Mapping[str, Any], evidence: Evidence) -> None:
    """Draw what ``audit.json`` says, and one replayed episode: the one of median fidelity.

    Args:
        path: the PNG file.
        report: content of ``audit.json``.
        evidence: what it was found in.
    """
    figure = Figure(figsize=(13, 11.2), dpi=110)
    FigureCanvasAgg(figure)
    title = f"Audit of {report['world']}, version {report['version']}"
    figure.text(0.04, 0.968, title, fontsize=16, weight="bold", color=_LETTERS)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in report["counts"].items())
    subtitle = (
        f"{counts}   ·   {report['episodes']} held-out episodes of {report['steps']} actions   ·   "
        f"weights and sampler {report['model_hash']}   ·   intervals are 95 %"
    )
    figure.text(0.04, 0.947, subtitle, fontsize=10, color=_FAINT)
    probes = {probe["name"]: probe for probe in report["probes"]}
    _verdicts(figure.add_axes((0.04, 0.565, 0.92, 0.37)), report["probes"])
    places = [(left, 0.32, 0.25, 0.19) for left in (0.06, 0.385, 0.71)]
    panels = [_over_time, _inverse, _directions]
    for place, panel in zip(places, panels, strict=True):
        panel(figure.add_axes(place), probes)
    _film(figure.add_axes((0.06, 0.02, 0.90, 0.20)), evidence)
    figure.savefig(path)


def _verdicts(axes: Axes, probes: list[Mapping[str, Any]]) -> None:
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(len(probes) + 0.1, -0.4))
    for i, probe in enumerate(probes):
        axes.axhline(i - 0.4, color="#eaeef2", linewidth=0.8)
        chip = {"boxstyle": "round,pad=0.35", "facecolor": _VERDICTS[probe["verdict"]], "edgecolor": "none"}
        axes.text(0.03, i + 0.1, probe["verdict"], fontsize=9, weight="bold", color="white", ha="center",
                  va="center", bbox=chip)  # fmt: skip
        axes.text(0.075, i - 0.12, probe["question"], fontsize=9.5, color=_LETTERS, va="center")
        said = textwrap.shorten(probe["says"], 125, placeholder=" …")
        axes.text(0.075, i + 0.28, said, fontsize=7.8, color=_FAINT, va="center")
        axes.text(0.80, i + 0.1, shown(probe), fontsize=9.5, color=_LETTERS, va="center", ha="center")
        axes.text(
            1.0, i + 0.1, f"passes: {probe['passes']}", fontsize=8.5, color=_FAINT, va="center", ha="right"
        )


def _over_time(axes: Axes, probes: Mapping[str, Mapping[str, Any]]) -> None:
    details, promise = probes["replay_fidelity"]["details"], probes["horizon"]["details"]
    nearness = np.array(details["by_step"]["psnr_db"])
    steps = np.arange(1, len(nearness) + 1)
    axes.plot(steps, nearness, color=_IMAGINED, linewidth=1.8, label="imagined")
    axes.plot(steps, details["still_picture_psnr_db"], color=_GUIDE, linewidth=1.2, label="a still picture")
    axes.axhline(promise["within_db"], color=_GUIDE, linewidth=1, linestyle=(0, (4, 3)))
    certified = promise["certified_steps"]
    axes.axvspan(0.5, certified + 0.5, color="#1f6feb", alpha=0.08, linewidth=0)
    axes.set_xlim(0.5, len(steps) + 0.5)
    axes.set_xlabel("step", fontsize=9, color=_LETTERS)
    _style(
        axes,
        "PSNR to the recording, dB",
        f"shaded: {certified} steps certified at {promise['within_db']:g} dB",
    )
    axes.legend(fontsize=8, frameon=False, labelcolor=_LETTERS)


def _inverse(axes: Axes, probes: Mapping[str, Mapping[str, Any]]) -> None:
    details = probes["inverse_dynamics"]["details"]
    if not details:
        return _empty(axes, "Action read from frames, R2")
    names = list(details["r2_real"])
    for offset, key, colour, label in (
        (-0.2, "r2_real", _REAL, "real frames"),
        (0.2, "r2_imagined", _IMAGINED, "imagined frames"),
    ):
        values = [max(0.0, details[key][name] or 0.0) for name in names]
        axes.bar(np.arange(len(names)) + offset, values, 0.38, color=colour, label=label)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 1)
    _style(
        axes, "Action read from frames, R2", "the two should be alike; below 0.3 on real frames: not judged"
    )
    axes.legend(fontsize=8, frameon=False, labelcolor=_LETTERS)
    return None


def _directions(axes: Axes, probes: Mapping[str, Mapping[str, Any]]) -> None:
    """Recorded against imagined travel, every component of every episode one point."""
    details = probes["direction"]["details"]
    title = "Travel under constant actions"
    if not details:
        return _empty(axes, title)
    real, imagined = (np.array([e[key] for e in details["episodes"]]) for key in ("real", "imagined"))
    reach = 1.1 * max(np.abs(real).max(), np.abs(imagined).max(), 1e-3)
    axes.plot([-reach, reach], [-reach, reach], color=_GUIDE, linewidth=1, linestyle=(0, (4, 3)))
    for i, name in enumerate(details["components"]):
        colour = ("#1f6feb", "#bf8700", "#8250df", "#1a9440")[i % 4]
        axes.scatter(real[:, i], imagined[:, i], s=16, color=colour, alpha=0.75, linewidth=0, label=name)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    axes.set_xlabel("recorded", fontsize=9, color=_LETTERS)
    axes.set_ylabel("imagined", fontsize=9, color=_LETTERS)
    _style(axes, title, "in full actions; on the diagonal: as far, and the same way")
    axes.legend(fontsize=8, frameon=False, labelcolor=_LETTERS, loc="upper left", handletextpad=0.1)
    return None


def _film(axes: Axes, evidence: Evidence) -> None:
    played = evidence.heldout
    order = np.argsort(played.replay.psnr.mean(axis=1))
    chosen = int(order[len(order) // 2])
    columns = np.unique(np.linspace(0, played.recorded.shape[1] - 1, _COLUMNS).round().astype(int))
    rows = [frames[chosen, columns] for frames in (played.recorded, played.replay.frames)]
    gap = max(1, played.recorded.shape[2] // 16)
    padded = [np.pad(row, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255) for row in rows]
    axes.imshow(
        np.concatenate([np.concatenate(list(row), axis=1) for row in padded]), interpolation="nearest"
    )
    axes.axis("off")
    axes.set_anchor("W")
    side = padded[0].shape[1:3]
    for j, label in enumerate(("recorded", "imagined")):
        axes.text(
            -gap, (j + 0.5) * side[0], label, fontsize=9, color=_FAINT, ha="right", va="center", rotation=90
        )
    for i, column in enumerate(columns):
        axes.text(i * side[1], -gap, f"frame {column}", fontsize=8, color=_FAINT, va="bottom")
    episode = played.episodes[chosen]
    verdicts = [("failure", "success")[bool(x[chosen])] for x in (played.replay.real, played.replay.imagined)]
    axes.set_title(
        f"The held-out episode of median fidelity ({episode.behaviour}, seed {episode.seed}): "
        f"{verdicts[0]} as recorded, {verdicts[1]} as imagined",
        fontsize=10.5, color=_LETTERS, loc="left", pad=18,
    )  # fmt: skip


def _empty(axes: Axes, title: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", va="center", color=_FAINT)
    _style(axes, title, "")


def _style(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(f"{title}\n", fontsize=10.5, color=_LETTERS, loc="left")
    axes.text(0, 1.03, subtitle, transform=axes.transAxes, fontsize=8, color=_FAINT)
    axes.grid(color="#eaeef2", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT, length=0, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color("#d0d7de")
