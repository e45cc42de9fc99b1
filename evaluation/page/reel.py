"""Films of a ranking, small enough for a page: one picture per episode with all its frames."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from PIL import Image

from v2w_gym.data.episode import Episode, FrameArray
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.ledger import Record

BUDGET = 9_000_000
"""Most characters that all films of a page may take."""

PARTED = 0.1
"""Frames have parted when some block of them differs by this share of the range on average."""

_BLOCKS = 8  # along each side of a frame
_TRIES = ((192, 90), (128, 85), (96, 75))
"""Longest side of a frame and quality; the next if the films of one start are too much."""
_COLUMNS = 8

Reel = dict[str, Any]


def make_reel(
    policies: Sequence[str], starts: Sequence[str], films: Films, records: Sequence[Record]
) -> tuple[Reel, list[str]] | None:
    """What the player needs; None where nothing was filmed.

    Args:
        policies: names, best first.
        starts: ids of the starts that may have been filmed.
        films: the frames.
        records: finished episodes.

    Returns:
        ``{"policies", "starts", "films", "partings", "first"}``, where ``films[s][p]`` is policy ``p`` from
        start ``s`` and ``partings[s][p][q - p - 1]`` tells where it parts from policy ``q``; and the names of
        the policies that are left out for lack of room or frames.
    """
    facts = {(record.policy, record.start_id): record for record in records}
    there = {
        start: [name for name in policies if (name, start) in facts and films.path(name, start).exists()]
        for start in starts
    }
    names = next((found for found in there.values() if found), [])
    reel: Reel = {"policies": names, "starts": [], "films": [], "partings": []}
    spent, size = 0, None
    for start in [start for start, found in there.items() if names and set(names) <= set(found)]:
        scene = [Episode.load(films.path(name, start)) for name in reel["policies"]]
        size = size or _fitting(scene)
        row = [sprite(episode.frames, *size) for episode in scene]
        cost = sum(len(one["url"]) for one in row)
        if not reel["starts"] and cost > BUDGET:  # as many policies as fit, evenly from best to worst
            keep = np.unique(np.linspace(0, len(row) - 1, max(1, len(row) * BUDGET // cost)).astype(int))
            names, scene, row = ([values[i] for i in keep] for values in (names, scene, row))
            reel["policies"] = names
        elif spent + cost > BUDGET:
            break
        spent += cost
        reel["starts"].append(start)
        reel["films"].append([_film(one, facts[name, start]) for name, one in zip(names, row, strict=True)])
        reel["partings"].append(_partings(scene))
    if not reel["films"]:
        return None
    return {**reel, "first": _first(reel)}, [name for name in policies if name not in names]


def _fitting(scene: Sequence[Episode]) -> tuple[int, int]:
    """Size and quality at which all episodes of one start fit; the smallest if none does."""
    for side, quality in _TRIES:
        if sum(len(sprite(episode.frames, side, quality)["url"]) for episode in scene) <= BUDGET:
            break
    return side, quality


def sprite(frames: FrameArray, side: int, quality: int) -> dict[str, Any]:
    """All frames ``(f, h, w, 3)`` in one WebP picture as a data URL, row by row; never enlarged."""
    scale = min(1.0, side / max(frames.shape[1:3]))
    height, width = (max(1, round(scale * n)) for n in frames.shape[1:3])
    if scale < 1:
        small = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames]
        frames = np.stack(small).astype(np.uint8)
    rows = -(-len(frames) // _COLUMNS)
    sheet = np.zeros((rows, _COLUMNS, height, width, 3), np.uint8)
    sheet.reshape(-1, height, width, 3)[: len(frames)] = frames
    buffer = io.BytesIO()
    picture = sheet.swapaxes(1, 2).reshape(rows * height, _COLUMNS * width, 3)
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=4)
    url = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"url": url, "width": width, "height": height, "columns": _COLUMNS, "frames": len(frames)}


def _film(picture: Mapping[str, Any], record: Record) -> dict[str, Any]:
    votes = list(record.probabilities) or [None] * record.steps  # none of a judge of the whole clip
    return {**picture, "votes": votes, "verdict": record.verdict}


def _partings(row: Sequence[Episode]) -> list[list[dict[str, int | None]]]:
    found: list[list[dict[str, int | None]]] = [[] for _ in row]
    for i, j in combinations(range(len(row)), 2):
        found[i].append({"frame": parted_frames(row[i], row[j]), "action": parted_actions(row[i], row[j])})
    return found


def parted_frames(first: Episode, second: Episode) -> int | None:
    """Index of the first frame in which the two visibly differ; None if none does."""
    length = min(len(first), len(second))
    for index in range(length):
        differing = cv2.absdiff(first.frames[index], second.frames[index]).mean(axis=-1) / 255
        if cv2.resize(differing, (_BLOCKS, _BLOCKS), interpolation=cv2.INTER_AREA).max() > PARTED:
            return index
    return None


def parted_actions(first: Episode, second: Episode) -> int | None:
    """The first step whose actions differ, counted from 1; None if none does or there are none."""
    if first.actions is None or second.actions is None:
        return None
    length = min(len(first.actions), len(second.actions))
    differing = (first.actions[:length] != second.actions[:length]).any(axis=1)
    return int(np.argmax(differing)) + 1 if differing.any() else None


def _first(reel: Reel) -> list[int]:
    """Two policies to begin with: the best, and the best of those that end otherwise."""
    verdicts = [film["verdict"] for film in reel["films"][0]]
    other = next(
        (i for i, verdict in enumerate(verdicts) if verdict != verdicts[0]), min(1, len(verdicts) - 1)
    )
    return [0, other]
