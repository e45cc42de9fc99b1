"""Clips whose outcome is known: episodes, videos with a file of labels, or the films of a ranking."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np

from v2w_gym.data.episode import Episode, EpisodeFolder
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.ledger import Ledger
from v2w_gym.evaluation.manifest import Provenance
from v2w_gym.evaluation.rereading import LEDGER, open_world, protocol_of, told_before
from v2w_gym.rewards.judge import Clip

LABELS = ("labels.json", "labels.csv")
_YES, _NO = ("1", "true", "success", "yes"), ("0", "false", "failure", "no")


@dataclass(frozen=True)
class Labelled:
    """A clip and how it ended in reality.

    Attributes:
        name: of its file, without the ending.
        clip: what a judge sees.
        success: whether the task was done.
    """

    name: str
    clip: Clip
    success: bool


def read_clips(
    folder: str | Path,
    *,
    labels: str | Path | None = None,
    world: str | Path | None = None,
    instruction: str | None = None,
    fps: float | None = None,
    limit: int | None = None,
) -> list[Labelled]:
    """Labelled clips of a folder, in the order of their names.

    Args:
        folder: of episodes (``.npz`` with success flags), of videos (``.mp4``), or of a ranking: its films,
            labelled by how the policy fared from the same start in reality, where that was measured.
        labels: of videos: JSON, ``{"name.mp4": true}`` or ``{"name.mp4": {"success": true, "instruction":
            "..."}}``, or CSV with the columns file, success and, if need be, instruction; default:
            ``labels.json`` or ``labels.csv`` in the folder.
        world: whose reality labels the films of a ranking; default: where the last run opened it.
        instruction: what was asked for, in place of what the files say.
        fps: frames per second of real time; default: 5 for episodes, what a video or a world says.
        limit: at most so many; the first, or of a ranking some of every policy.

    Raises:
        FileNotFoundError: no clips, no labels of videos, or no world of a ranking.
        ValueError: a label or an instruction that is missing or cannot be read, or a world that the ranking
            was not made in.
    """
    path = Path(folder)
    if is_ranking(path):
        return _films(path / LEDGER, world, instruction, fps, limit)
    if videos := sorted(path.glob("*.mp4"))[:limit]:
        known = _labels(path, labels)
        return [_video(video, known, instruction, fps) for video in videos]
    episodes = EpisodeFolder(path, limit)
    found = []
    for file, episode in zip(episodes.files, episodes, strict=True):
        clip = Clip(episode.frames, instruction or episode.task, fps or 5.0)
        found.append(Labelled(file.stem, clip, episode.succeeded))
    return found


def is_ranking(folder: str | Path) -> bool:
    """Whether ``folder`` is what ``v2w rank`` wrote, so that its clips were imagined."""
    return (Path(folder) / LEDGER).is_file()


def _films(
    file: Path, place: str | Path | None, instruction: str | None, fps: float | None, limit: int | None
) -> list[Labelled]:
    """Films of the ranking with the ledger ``file``, from starts whose real outcome is known."""
    provenance, records, films = Provenance.load(file), Ledger(file).records, Films(file.parent / "frames")
    world = open_world(place, provenance, file)
    if records:
        protocol_of(records, provenance, told_before(file.parent), world, file)  # refuses another world
    real = (world.reality() or {}).get("policies", {})
    known = []
    for record in records:
        outcome = (real.get(record.policy, {}).get("outcomes") or {}).get(record.start_id)
        if outcome is not None and films.path(record.policy, record.start_id).exists():
            known.append((record, bool(outcome)))
    if not known:
        raise ValueError(
            f"no film beside {file} has an outcome in the reality of world {world.config.name!r}; rank "
            "policies that were measured, with --judge, which keeps all films"
        )
    if limit is not None and limit < len(known):
        known = [known[i] for i in np.linspace(0, len(known) - 1, limit).round().astype(int)]
    found = []
    for record, outcome in known:
        frames = Episode.load(films.path(record.policy, record.start_id)).frames
        clip = Clip(frames, instruction or record.instruction, fps or world.config.fps)
        found.append(Labelled(f"{record.policy} from {record.start_id}", clip, outcome))
    return found


def _video(video: Path, known: Mapping[str, Any], instruction: str | None, fps: float | None) -> Labelled:
    entry = known.get(video.name, known.get(video.stem))
    entry = entry if isinstance(entry, Mapping) else {"success": entry}
    asked = instruction or entry.get("instruction")
    if not asked:
        raise ValueError(
            f"nobody says what {video} was to show; give --instruction TEXT, or a label for each"
        )
    frames = np.asarray(imageio.imread(video, plugin="FFMPEG"), np.uint8)
    speed = fps or float(imageio.immeta(video, plugin="FFMPEG").get("fps", 5.0))
    return Labelled(video.stem, Clip(frames, asked, speed), _truth(video, entry.get("success")))


def _labels(folder: Path, given: str | Path | None) -> dict[str, Any]:
    places = [folder / name for name in LABELS] if given is None else [Path(given)]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"no labels of the videos in {folder}; write {places[0]}: "
            '{"name.mp4": {"success": true, "instruction": "close the drawer"}}'
        )
    try:
        if file.suffix == ".json":
            return dict(json.loads(file.read_text()))
        with file.open(newline="", encoding="utf-8-sig") as lines:  # spreadsheets write a mark first
            return {row["file"]: row for row in csv.DictReader(lines)}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is no mapping from file to label ({error!r}); JSON: "
            '{"name.mp4": true}; CSV: a line "file,success,instruction", then a line per video'
        ) from error


def _truth(video: Path, value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in (*_YES, *_NO):
        raise ValueError(
            f"the label of {video} must be true or false, got {value!r}; move unlabelled ones elsewhere"
        )
    return word in _YES
