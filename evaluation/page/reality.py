"""How the report holds the ranking against reality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from v2w_gym.evaluation.labels import Box, place
from v2w_gym.evaluation.page.ranks import NOTHING, percent
from v2w_gym.evaluation.remarks import other_rule

MEASURES = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "kendall": "Kendall",
    "mmrv": "MMRV (0 is best)",
    "regret": "regret (0 is best)",
}

_SIZE, _LEFT, _TOP, _RIGHT, _LOW = 420, 44, 8, 412, 378
_LETTER, _HIGH = 6.7, 14  # mean width and height of a letter


def view(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the section shows; ``scatter`` is None where no reality is known."""
    measured = [e for e in summary["policies"] if e["rank"] is not None and e["real_success"] is not None]
    spoken = [
        f"{name} {summary[key]['value']:.2f}"
        for key, name in MEASURES.items()
        if summary.get(key) and summary[key]["value"] is not None
    ]
    return {
        "scatter": _scatter(measured) if measured else None,
        "metrics_spoken": ", ".join(spoken),
        "agreement": _agreement(summary, len(measured)),
        "reality_notes": _notes(summary, measured) if measured else [],
    }


def _x(rate: float) -> float:
    return round(_LEFT + 12 + rate * (_RIGHT - _LEFT - 24), 1)


def _y(rate: float) -> float:
    return round(_LOW - 12 - rate * (_LOW - _TOP - 24), 1)


def _scatter(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    points = [_point(entry) for entry in measured]
    line = np.linspace(0, 1, 80)
    lines: list[Box] = [(_x(t) - 2, _y(t) - 2, _x(t) + 2, _y(t) + 2) for t in line]
    for p in points:
        lines.append((p["x"] - 1, p["top"], p["x"] + 1, p["bottom"]))
        lines.append((p["left"], p["y"] - 1, p["right"], p["y"] + 1))
    labels = place(
        [(p["x"], p["y"]) for p in points],
        [(_LETTER * len(p["name"]), _HIGH) for p in points],
        lines,
        (_LEFT, _TOP, _RIGHT, _LOW),
    )
    for point, label in zip(points, labels, strict=True):
        anchor = {"left": "start", "right": "end", "center": "middle"}[label.side]
        x, y = point["x"] + label.offset[0], point["y"] + label.offset[1]
        point["label"] = {"x": round(x, 1), "y": round(y, 1), "anchor": anchor}
    ticks = [{"at": _x(t), "up": _y(t), "text": f"{100 * t:.0f}"} for t in np.linspace(0, 1, 6)]
    room = {"size": _SIZE, "left": _LEFT, "right": _RIGHT, "low": _TOP, "high": _LOW}
    return {**room, "ticks": ticks, "points": points}


def _point(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": entry["name"],
        "x": _x(entry["real_success"]),
        "y": _y(entry["success"]),
        "left": _x(entry["real_low"]),
        "right": _x(entry["real_high"]),
        "top": _y(entry["high"]),
        "bottom": _y(entry["low"]),
        "spoken": f"{entry['name']}: imagined {percent(entry['success'])}, "
        f"real {percent(entry['real_success'])}",
    }


def _agreement(summary: Mapping[str, Any], known: int) -> dict[str, Any]:
    columns: dict[str, Mapping[str, Any]] = {f"{known} policies": summary}
    if steady := summary.get("steady"):
        unsteady = [e["name"] for e in summary["policies"] if e["unsteady"]]
        columns[f"without {', '.join(unsteady)}"] = steady
    if ceiling := summary.get("ceiling"):
        columns["best possible"] = ceiling
    lines = [
        {"name": name, "cells": [_cell(estimates.get(key)) for estimates in columns.values()]}
        for key, name in MEASURES.items()
        if summary.get(key) is not None
    ]
    return {"columns": list(columns), "lines": lines}


def _cell(estimate: Mapping[str, Any] | None) -> dict[str, str]:
    if estimate is None or estimate["value"] is None:
        return {"value": NOTHING, "interval": ""}
    return {
        "value": f"{estimate['value']:.2f}",
        "interval": f"[{estimate['low']:.2f}, {estimate['high']:.2f}]",
    }


def _notes(summary: Mapping[str, Any], measured: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    if left := (summary.get("leave_one_out") or {}).get("pearson"):
        notes.append(
            f"Leaving out one policy at a time, Pearson runs from {left['low']:.2f} (without "
            f"{left['low_without']}) to {left['high']:.2f} (without {left['high_without']})."
            if left["low"] is not None and left["high"] is not None
            else "Leaving out one policy at a time, Pearson is not always defined."
        )
    off = [e for e in measured if abs(e["success"] - e["real_success"]) > 0.15]
    if off:
        worst = sorted(off, key=lambda e: -abs(e["success"] - e["real_success"]))
        shown = ", ".join(
            f"{e['name']} ({percent(e['success'])}, really {percent(e['real_success'])})" for e in worst[:5]
        )
        more = f" and {len(worst) - 5} more" if len(worst) > 5 else ""
        notes.append(f"Imagination is wrong by more than 15 points on {shown}{more}.")
    else:
        notes.append("Imagination is within 15 points of reality for every policy.")
    if summary.get("ceiling"):
        notes.append(
            "Best possible is what an evaluator that knew the true rates would reach against as few real "
            "episodes."
        )
    if calibration := summary.get("calibration"):
        notes.append(_calibration(calibration))
    notes += [f"{text[0].upper()}{text[1:]}." for text in other_rule(summary)]
    return notes


def _calibration(calibration: Mapping[str, Any]) -> str:
    if calibration["error"] is None:
        return (
            "Calibrated rates were asked for, but reality knows too few of these policies to teach a map "
            f"({calibration['policies']})."
        )
    helps = "It helps." if calibration["helps"] else "It does harm: do not use it."
    return (
        f"Calibrated rates are an {calibration['kind']} map from imagined to real success, each policy "
        "mapped by what the others teach. That changes the mean error from "
        f"{100 * calibration['raw_error']:.0f} to {100 * calibration['error']:.0f} points. {helps}"
    )
