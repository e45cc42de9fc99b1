"""A reality of one square that actions push about, and worlds that imitate it well or badly.

All parts work: recorded episodes on disk, a world model with ``init``, ``step`` and ``decode``, a detector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2w_gym.data.episode import Episode
from v2w_gym.envs.world import ActionSpec, DetectorSpec, WorldConfig

SIDE, STEPS, PACE, GOAL = 32, 8, 3.0, 24.0
LOW, HIGH = 4.0, 27.0

Law = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Next places ``(b, 2)`` in pixels from places and actions."""


def true_law(place: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    return (place + PACE * action).clamp(LOW, HIGH)


def drawn(place: torch.Tensor) -> torch.Tensor:
    """Frames ``(b, h, w, 3)`` uint8 with a soft bright square at ``place``, x right and y down."""
    grid = torch.arange(SIDE, dtype=torch.float32)
    across, down = ((4.0 - (grid - place[:, i : i + 1]).abs()).clamp(0, 1) for i in (0, 1))
    square = down[:, :, None] * across[:, None, :]
    colour = torch.tensor([220.0, 180.0, 60.0])
    background = 30.0 + torch.zeros(SIDE, SIDE, 1)
    return (background + square[..., None] * (colour - background)).round().to(torch.uint8)


@dataclass
class ToyState:
    latent: torch.Tensor
    frame_index: torch.Tensor


class ToyModel:
    """A world model that obeys ``law``."""

    frame_size, action_dim, window, hash = (SIDE, SIDE), 2, 1, "toy"
    device = torch.device("cpu")

    def __init__(self, law: Law) -> None:
        self._law = law

    def init(self, frames: Any, actions: Any, seeds: Any) -> ToyState:
        bright = torch.as_tensor(frames[:, -1]).float().mean(dim=-1) - 30.0
        grid = torch.arange(SIDE, dtype=torch.float32)
        total = bright.sum(dim=(1, 2))
        place = torch.stack([(bright.sum(dim=1) @ grid) / total, (bright.sum(dim=2) @ grid) / total], dim=1)
        return ToyState(place[:, :, None, None], torch.zeros(len(place), dtype=torch.int64))

    def step(self, state: ToyState, action: Any) -> ToyState:
        place = self._law(state.latent[..., 0, 0], torch.as_tensor(action).float())
        return ToyState(place[:, :, None, None], state.frame_index + 1)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return drawn(latent[..., 0, 0])


class ToyDetector:
    """Success where the square is right of the goal; ``always`` says yes to anything."""

    hash, threshold = "toy", 0.5

    def __init__(self, always: bool = False) -> None:
        self._always = always

    def reset(self, instruction: Any, slots: Any) -> None:
        pass

    def score(self, frames: Any, slots: Any = None) -> np.ndarray:
        bright = np.asarray(frames, np.float64).mean(axis=-1) - 30.0
        right = (bright.sum(axis=1) * np.arange(SIDE)).sum(axis=1) / bright.sum(axis=(1, 2))
        return np.where(self._always, 1.0, right > GOAL).astype(np.float32)


class ToyWorld:
    """What an audit asks of an opened world."""

    def __init__(self, law: Law = true_law, always: bool = False, detector: str = "classifier") -> None:
        self._law, self._always = law, always
        self.config = WorldConfig(
            name="toy",
            version=1,
            frame_size=(SIDE, SIDE),
            fps=10.0,
            horizon=STEPS,
            window=1,
            action=ActionSpec(("dx", "dy"), (-1.0,) * 2, (1.0,) * 2, "1"),
            instructions=("push right",),
            detector=DetectorSpec(detector, 0.5),
        )

    def model(self, device: str = "cpu", sampler: Any = None) -> ToyModel:
        return ToyModel(self._law)

    def detector(self, device: str = "cpu") -> ToyDetector:
        return ToyDetector(self._always)

    def sampler(self, chosen: Any = None) -> dict[str, Any]:
        return {}


def recorded(actions: np.ndarray, seed: int, behaviour: str) -> Episode:
    """What these actions ``(f-1, 2)`` do in reality, from a start that ``seed`` places."""
    rng = np.random.default_rng((seed, 3))
    place = torch.tensor(rng.uniform(10.0, 20.0, (1, 2)), dtype=torch.float32)
    frames = [drawn(place)]
    for action in torch.from_numpy(actions.astype(np.float32)):
        place = true_law(place, action[None])
        frames.append(drawn(place))
    film = torch.cat(frames).numpy()
    success = ToyDetector().score(film) > 0.5
    success[0] = False
    return Episode(film, actions.astype(np.float32), success, "toy", behaviour, seed)


def record_all(folder: Path, heldout: int) -> dict[str, str]:
    """Folders of held-out episodes, probes and directions, by the names of the options."""
    rng = np.random.default_rng(0)
    episodes = {"heldout": [], "probes": [], "directions": []}
    for seed in range(heldout):
        pushed = rng.uniform(-1, 1, 2) * 0.6 + rng.uniform(-1, 1, (STEPS, 2)) * 0.4
        episodes["heldout"].append(recorded(pushed, seed, "walk"))
    for seed in range(1000, 1020):
        episodes["probes"].append(recorded(np.zeros((STEPS, 2)), seed, "still"))
        episodes["probes"].append(recorded(np.tile([-1.0, 0.2], (STEPS, 1)), seed + 100, "left"))
    for seed in (2000, 2001, 2002):
        for way in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            for size in (1.0, 0.5):
                name = f"{way[0]},{way[1]}" + ("" if size == 1.0 else "/2")
                episodes["directions"].append(recorded(np.tile(size * np.array(way), (4, 1)), seed, name))
    for name, found in episodes.items():
        (folder / name).mkdir()
        for i, episode in enumerate(found):
            episode.save(folder / name / f"{i:04d}.npz")
    return {name: str(folder / name) for name in episodes}
