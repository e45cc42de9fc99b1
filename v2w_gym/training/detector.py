"""Train and calibrate the success detector on recorded frames: ``v2w train detector``.

The simulator's flag turns within millimetres, so most frames are easy and a few decide. Half of each batch is
drawn from hard frames: first those close in time to a turn of the flag, later those that the network itself
gets wrong. Temperature, shift and threshold are then chosen on episodes that were not trained on, since that
emphasis distorts probabilities. The verdict that counts is per episode: any frame but the first above it?
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from v2w_gym.data.episode import Episode, EpisodeFolder, FrameArray
from v2w_gym.rewards.base import SuccessDetector
from v2w_gym.rewards.classifier import ClassifierConfig, FrameClassifier
from v2w_gym.training.augment import light, through_codec
from v2w_gym.training.calibration import (
    Flags,
    choose_threshold,
    count_verdicts,
    episode_probability,
    fit_calibration,
    reliability,
)
from v2w_gym.training.loop import Loop, LoopConfig, Losses
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.halves import running_in

_EASY = 0.02  # weight of a frame that is not hard at all, beside 1 for a wrong one


@dataclass(frozen=True)
class DetectorConfig:
    """What to train on.

    Attributes:
        data: episode folders with the simulator's flag.
        heldout: episode folder for the card; nothing is chosen on it.
        codec: folder of the world's codec; half of the frames then go through it, as imagined ones have. None
            trains on recorded frames as they are.
        init: folder of a trained detector to start from, of the same sizes; None starts anew.
        loop: the item of a batch is a frame; ``sample_every`` is when hard frames are looked for anew.
        classifier: sizes of the network.
        limit: read at most so many episodes of each folder; None reads all.
        validation: every so many-th episode calibrates instead of training.
        near: frames so close in time to a turn of the flag count as hard at the beginning.
    """

    data: tuple[str, ...]
    heldout: str
    codec: str | None = None
    init: str | None = None
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=3000, batch_size=128))
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    limit: int | None = None
    validation: int = 10
    near: int = 2


@dataclass(frozen=True)
class Judged:
    """Frames with flags, episode by episode.

    Attributes:
        frames: ``(episodes, f, h, w, 3)`` uint8.
        flags: ``(episodes, f)`` bool.
    """

    frames: FrameArray
    flags: Flags


def read(folders: Sequence[str | Path], limit: int | None = None) -> Judged:
    """All episodes of ``folders`` in memory."""
    episodes: list[Episode] = [e for folder in folders for e in EpisodeFolder(folder, limit)]
    return Judged(np.stack([e.frames for e in episodes]), np.stack([e.success for e in episodes]))


class HardFrames:
    """Draws frames of the chosen episodes: a quarter of each flag at random, half by hardness.

    Args:
        judged: all frames.
        rows: episodes to draw from.
        near: see :class:`DetectorConfig`.
        path: where hardness is kept, so that a training that goes on draws alike.
    """

    def __init__(self, judged: Judged, rows: npt.NDArray[np.intp], near: int, path: Path) -> None:
        self.judged, self.rows, self.path = judged, rows, path
        flags = judged.flags[rows]
        self._positive, self._negative = np.flatnonzero(flags), np.flatnonzero(~flags)
        self._set(np.load(path) if path.exists() else near_a_turn(flags, near).astype(np.float64))

    def draw(self, rng: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames ``(b, h, w, 3)`` uint8 and flags ``(b,)`` float32."""
        quarter = size // 4
        hard = np.searchsorted(self._cumulative, rng.random(size - 2 * quarter))
        plain = [rng.choice(pool, quarter) for pool in (self._positive, self._negative)]
        episode, frame = np.divmod(np.concatenate([hard, *plain]), self.judged.flags.shape[1])
        chosen = self.rows[episode], frame
        flags = self.judged.flags[chosen].astype(np.float32)
        return torch.from_numpy(self.judged.frames[chosen]), torch.from_numpy(flags)

    def look(self, detector: FrameClassifier) -> None:
        """Let the network say which frames are hard for it: by how much it is wrong."""
        wrong = [
            np.abs(detector.score(self.judged.frames[row]) - self.judged.flags[row]) for row in self.rows
        ]
        hardness = np.stack(wrong).astype(np.float64)
        unfinished = self.path.with_suffix(".partial")
        with unfinished.open("wb") as file:
            np.save(file, hardness)
        os.replace(unfinished, self.path)
        self._set(hardness)

    def _set(self, hardness: npt.NDArray[np.float64]) -> None:
        total = np.cumsum(hardness.ravel() + _EASY)
        self._cumulative = total / total[-1]


def near_a_turn(flags: Flags, near: int) -> Flags:
    """Frames ``(n, f)`` no more than ``near`` frames away from a change of the flag."""
    turned = flags[:, 1:] != flags[:, :-1]
    close = np.zeros_like(flags)
    for offset in range(-near, near):
        rolled = np.zeros_like(flags)
        source = turned[:, max(0, -offset - 1) : turned.shape[1] - max(0, offset)]
        start = max(0, offset + 1)
        rolled[:, start : start + source.shape[1]] = source
        close |= rolled
    return close


def train(config: DetectorConfig, out: str | Path) -> bool:
    """Train (or go on training) a detector into ``out/detector``; returns True once all steps are done."""
    torch.manual_seed(config.loop.seed)
    out = Path(out)
    judged = read(config.data, config.limit)
    calibrates = np.arange(len(judged.flags)) % config.validation == 0
    augment = light if config.codec is None else through_codec(FrameCodec.from_pretrained(config.codec))
    detector = FrameClassifier(config.classifier)
    if config.init is not None:
        detector.load_state_dict(FrameClassifier.from_pretrained(config.init).state_dict())
    detector.train()
    loop = Loop(detector, config.loop, out)
    source = HardFrames(judged, np.flatnonzero(~calibrates), config.near, out / "hardness.npy")

    def loss(batch: tuple[torch.Tensor, torch.Tensor], generator: torch.Generator) -> Losses:
        frames, flags = augment(batch[0], generator).to(loop.device), batch[1].to(loop.device)
        with running_in(config.loop.precision, loop.device):
            logits = detector(frames)
        return {"loss": F.binary_cross_entropy_with_logits(logits.float(), flags)}

    def sample(_: Path, step: int) -> None:
        if step < config.loop.steps:
            source.look(detector)

    done = loop.fit(source.draw, loss, sample)
    validation = Judged(judged.frames[calibrates], judged.flags[calibrates])
    loop.with_average(lambda: _finish(detector, validation, config, out / "detector"))
    return done


def calibrate(detector: FrameClassifier, judged: Judged) -> FrameClassifier:
    """The same network with temperature, shift and threshold chosen on ``judged``."""
    logits = np.stack([detector.logits(frames).numpy() for frames in judged.frames])
    temperature, shift = fit_calibration(logits.ravel(), judged.flags.ravel())
    probability = 1.0 / (1.0 + np.exp(-(logits / temperature + shift)))
    return detector.calibrated(temperature, shift, choose_threshold(probability, judged.flags))


def confusion(detector: SuccessDetector, frames: FrameArray, flags: Flags) -> dict[str, Any]:
    """How a detector's verdicts compare with the simulator's flags.

    Args:
        detector: any success detector without memory.
        frames: ``(n, f, h, w, 3)`` uint8, recorded or imagined; frame 0 is the start.
        flags: ``(n, f)`` bool, the simulator's.

    Returns:
        Confusion matrices per frame and per episode (rule ``any``) and the reliability of the probabilities.
    """
    probability = np.stack([detector.score(episode) for episode in frames])
    return {
        "per_frame": count_verdicts(probability >= detector.threshold, flags),
        "per_episode": count_verdicts(
            episode_probability(probability) >= detector.threshold, np.any(flags[:, 1:], axis=1)
        ),
        "reliability": reliability(probability.ravel(), flags.ravel()),
    }


def _finish(detector: FrameClassifier, validation: Judged, config: DetectorConfig, folder: Path) -> None:
    calibrated = calibrate(detector, validation)
    calibrated.save_pretrained(folder)
    heldout = read([config.heldout], config.limit)
    add_to_card(folder, "recorded episodes, held out", confusion(calibrated, heldout.frames, heldout.flags))


def add_to_card(folder: str | Path, title: str, result: dict[str, Any]) -> None:
    """Put a result of :func:`confusion` into the detector's card, in place of one of the same title.

    The facts are kept in ``report.json``; ``README.md`` is written from them.
    """
    folder = Path(folder)
    detector = FrameClassifier.from_pretrained(folder)
    path = folder / "report.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    results = known.get("results", {}) if known.get("hash") == detector.hash else {}
    report: dict[str, Any] = {"hash": detector.hash, "results": {**results, title: result}}
    path.write_text(json.dumps(report, indent=2) + "\n")
    (folder / "README.md").write_text(_card(detector, report["results"]))


def _card(detector: FrameClassifier, results: dict[str, Any]) -> str:
    config = detector.config
    lines = [
        "# Success detector",
        "",
        "A convolutional network that reads success from one frame, trained on recorded frames with the",
        f"simulator's flag. Hash `{detector.hash}`, threshold {config.threshold:g}, temperature",
        f"{config.temperature:.3f}, shift {config.shift:.3f}; all three were chosen on episodes that were",
        "neither trained on nor held out.",
    ]
    for title, result in results.items():
        lines += ["", f"## On {title}", "", *_matrix(result), "", *_reliability(result["reliability"])]
    return "\n".join(lines) + "\n"


def _matrix(result: dict[str, Any]) -> list[str]:
    lines = [
        "| | success, rightly | success, wrongly | failure, rightly | failure, wrongly | agreement |",
        "|---|---|---|---|---|---|",
    ]
    for name, label in (("per_frame", "frames"), ("per_episode", "episodes (any frame)")):
        row = result[name]
        lines.append(
            f"| {label} | {row['true_success']} | {row['false_success']} | {row['true_failure']} "
            f"| {row['false_failure']} | {row['agreement']:.4f} |"
        )
    return lines


def _reliability(result: dict[str, Any]) -> list[str]:
    lines = [
        f"Expected calibration error {result['expected_calibration_error']:.4f}.",
        "",
        "| predicted | observed | frames |",
        "|---|---|---|",
    ]
    return lines + [f"| {b['predicted']:.3f} | {b['observed']:.3f} | {b['frames']} |" for b in result["bins"]]
