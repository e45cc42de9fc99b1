"""A judge's report card as one HTML file that asks no network for anything."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from v2w_gym import __version__
from v2w_gym.evaluation.judge_check.text import figures
from v2w_gym.evaluation.page.beliefs import audit
from v2w_gym.evaluation.page.reel import sprite
from v2w_gym.evaluation.page.writing import raw, templates
from v2w_gym.rewards.judge import Clip

_FRAMES, _SIDE, _QUALITY = 8, 112, 85


@dataclass(frozen=True)
class Shown:
    """A clip on the page.

    Attributes:
        name: of the clip.
        what: what it shows.
        clip: the frames.
        probability: of success, as the judge said.
        reason: what else it said.
    """

    name: str
    what: str
    clip: Clip
    probability: float
    reason: str | None


def write_page(
    path: Path, report: Mapping[str, Any], worst: Sequence[Shown], fallen: Sequence[Shown]
) -> None:
    """Write the card; a reader never sees half of it.

    Args:
        path: the HTML file.
        report: as ``judge_check.json`` holds it.
        worst: labelled clips that were judged most wrongly.
        fallen: misleading clips that the judge took for successes.
    """
    [(title, result)] = report["results"].items()
    bins = [] if result["reliability"] is None else result["reliability"]["bins"]
    text = (
        templates()
        .get_template("judge_check.html")
        .render(
            version=__version__,
            style=raw("style.css"),
            report=report,
            clips=title,
            counts=result["per_episode"],
            figures=figures(report),
            bins=[(f"{b['predicted']:.2f}", f"{b['observed']:.2f}", b["frames"]) for b in bins],
            red=audit({"probes": [_probe(p) for p in report["red_team"]]}, ""),
            sections=[("Judged most wrongly", _strips(worst)), ("Fallen for", _strips(fallen))],
        )
    )
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _probe(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {**finding, "text": finding["because"]}


def _strips(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """Film strips of eight frames, evenly from first to last."""
    strips = []
    for one in shown:
        index = np.linspace(0, len(one.clip.frames) - 1, _FRAMES).round().astype(int)
        said = f"{one.what}, told to “{one.clip.instruction}”; judged {one.probability:.2f}"
        picture = sprite(one.clip.frames[index], _SIDE, _QUALITY)
        strips.append({"name": one.name, "said": said, "reason": one.reason or "", "url": picture["url"]})
    return strips
