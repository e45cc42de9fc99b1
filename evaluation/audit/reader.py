"""A small network that reads from frames what moved them: the ruler that imagined frames are held to.

It learns real frames and real actions only, says how well it reads real episodes that it has not seen, and is
then shown imagined ones. What it cannot read in reality, nobody judges with it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from v2w_gym.data.episode import Episode, FrameArray

Floats = npt.NDArray[np.float64]

FEWEST_EPISODES = 20
_SIDE = 64  # longer side of the frames that are read; larger ones are shrunk
_SHIFT = 2  # pixels by which a lesson may be moved, so that no place is learned by heart
_CHUNK = 128


@dataclass(frozen=True)
class ReaderConfig:
    """How the reader learns.

    Attributes:
        steps: of the optimiser.
        batch_size: moments per step.
        width: channels at a half of the resolution; a quarter has twice, an eighth three times as many.
        learning_rate: at its highest.
        seed: of weights and lessons.
    """

    steps: int = 800
    batch_size: int = 64
    width: int = 16
    learning_rate: float = 2e-3
    seed: int = 0


class ActionReader:
    """Reads the action that moved frame i to frame i+1 from frames i-1 to i+2.

    Two frames do not tell: an arm with inertia still follows the action before, and shows much of this one
    only a frame later.

    Args:
        episodes: recorded ones with actions, which are not judged later; any lengths of two frames and more.
        config: how to learn.

    Attributes:
        episodes: how many it learned from.
        seconds: of processor time that it took.
    """

    def __init__(self, episodes: Sequence[Episode], config: ReaderConfig | None = None) -> None:
        config = config or ReaderConfig()
        began = time.process_time()
        films = [torch.from_numpy(shrunk(episode.frames)) for episode in episodes]
        actions = np.concatenate([_known(episode) for episode in episodes])
        self._mean = torch.from_numpy(actions.mean(axis=0))
        self._scale = torch.from_numpy(actions.std(axis=0).clip(1e-6))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._net = _network(films[0].shape[1:3], actions.shape[1], config.width)
            self._learn(films, torch.from_numpy(actions), config)
        self.episodes, self.seconds = len(episodes), time.process_time() - began

    @torch.no_grad()
    def read(self, frames: FrameArray) -> Floats:
        """Actions ``(n, f-1, a)`` that seem to lie between frames ``(n, f, h, w, 3)`` uint8."""
        self._net.eval()
        read = []
        for film in frames:
            small, index = torch.from_numpy(shrunk(film)), np.arange(len(film) - 1)
            parts = [
                self._net(_view(_window(small, index[i : i + _CHUNK]))) for i in range(0, len(index), _CHUNK)
            ]
            read.append(torch.cat(parts) * self._scale + self._mean)
        return torch.stack(read).double().numpy()

    def _learn(self, films: list[torch.Tensor], actions: torch.Tensor, config: ReaderConfig) -> None:
        starts = np.cumsum([0] + [len(film) - 1 for film in films])
        targets = (actions - self._mean) / self._scale
        optimizer = torch.optim.AdamW(self._net.parameters(), config.learning_rate, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=config.steps
        )
        rng = np.random.default_rng(config.seed)
        self._net.train()
        for _ in range(config.steps):
            moments = rng.integers(len(actions), size=config.batch_size)
            film = np.searchsorted(starts, moments, side="right") - 1
            seen = [_window(films[i], m[None] - starts[i]) for i, m in zip(film, moments, strict=True)]
            read = self._net(_moved(_view(torch.cat(seen)), rng))
            loss = nn.functional.smooth_l1_loss(read, targets[moments])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _network(size: Sequence[int], components: int, width: int) -> nn.Sequential:
    height, wide = (-(-side // 8) for side in size)
    network = nn.Sequential(
        nn.Upsample((8 * height, 8 * wide), mode="nearest"),
        *(nn.Conv2d(6, width, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(2 * width, 3 * width, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(3 * width, 3 * width, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(3 * width, 16, 1), nn.Flatten(), nn.Dropout(0.2)),
        *(nn.Linear(16 * height * wide, 64), nn.ReLU(), nn.Linear(64, components)),
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # it is faster so
    return network


def _window(film: torch.Tensor, index: npt.NDArray[np.int64]) -> torch.Tensor:
    """Frames i-1 to i+2, ``(b, 4, h, w, 3)``, of a film ``(f, h, w, 3)`` whose end frames are repeated."""
    around = index[:, None] + np.arange(-1, 3)
    return film[around.clip(0, len(film) - 1)]


def _view(windows: torch.Tensor) -> torch.Tensor:
    """What the network sees, ``(b, 6, h, w)``: frame i in colour, and three changes of brightness."""
    frames = windows.float().permute(0, 1, 4, 2, 3) / 127.5 - 1.0
    brightness = frames.mean(dim=2)
    return torch.cat([frames[:, 1], 3.0 * brightness.diff(dim=1)], dim=1)


def _moved(view: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    down, right = rng.integers(2 * _SHIFT + 1, size=2).tolist()
    height, width = view.shape[-2:]
    padded = nn.functional.pad(view, (_SHIFT,) * 4, mode="replicate")
    return padded[..., down : down + height, right : right + width]


def shrunk(film: FrameArray) -> FrameArray:
    """Frames ``(f, h, w, 3)`` uint8 at the size that the reader sees; small ones stay as they are."""
    height, width = film.shape[1:3]
    shrink = _SIDE / max(height, width)
    if shrink >= 1:
        return film
    size = (round(width * shrink), round(height * shrink))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in film])


def _known(episode: Episode) -> npt.NDArray[np.float32]:
    if episode.actions is None:
        raise ValueError(
            f"the episode with seed {episode.seed} has no actions, so nothing is learned from it"
        )
    return episode.actions
