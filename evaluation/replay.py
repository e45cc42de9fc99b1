"""Replay recorded actions in imagination, open loop, and hold imagined frames against recorded ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from v2w_gym.data.episode import Episode
from v2w_gym.envs.world import World
from v2w_gym.evaluation.protocol import episode_seeds

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Replay:
    """What became of ``n`` replayed episodes over ``steps`` actions.

    Attributes:
        psnr: ``(n, steps)`` dB, imagined frame against recorded frame.
        probabilities: ``(n, steps)``, the detector on imagined frames.
        flags: ``(n, steps)`` bool, the simulator's flag of the recorded frames.
        frames: ``(n, steps + 1, h, w, 3)`` uint8, the imagined frames.
        threshold: probability from which a frame counts as success.
    """

    psnr: Floats
    probabilities: Floats
    flags: npt.NDArray[np.bool_]
    frames: npt.NDArray[np.uint8]
    threshold: float

    @property
    def imagined(self) -> npt.NDArray[np.bool_]:
        """``(n,)`` verdict of each imagined episode under rule ``any``."""
        return np.asarray((self.probabilities >= self.threshold).any(axis=1))

    @property
    def real(self) -> npt.NDArray[np.bool_]:
        """``(n,)`` verdict of each recorded episode under rule ``any``."""
        return np.asarray(self.flags.any(axis=1))

    @property
    def agreement(self) -> float:
        """Share of episodes whose imagined verdict is the simulator's."""
        return float((self.imagined == self.real).mean())


def psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> Floats:
    """Peak signal-to-noise ratio in dB of frames ``(..., h, w, 3)`` uint8; equal frames give 99."""
    error = np.square(a.astype(np.float64) - b).mean(axis=(-3, -2, -1))
    return np.asarray(np.minimum(10 * np.log10(255.0**2 / np.maximum(error, 1e-12)), 99.0))


def replay(
    world: World,
    episodes: Sequence[Episode],
    *,
    batch_size: int = 32,
    seed: int = 0,
    device: str = "cpu",
    sampler: str | Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Replay:
    """Imagine every episode from its first frame and its actions; all must be equally long.

    Args:
        world: where.
        episodes: what was recorded.
        batch_size: most episodes imagined together.
        seed: of the noise.
        device: where the world model runs.
        sampler: preset or values of the sampler, as ``World.model`` takes them.
        progress: show a progress bar.

    Raises:
        ValueError: an episode without actions.
    """
    model, detector = world.model(device, sampler), world.detector(device)
    films, scores = [], []
    bar = tqdm(total=len(episodes), desc="replay", unit="ep", disable=not progress)
    for begin in range(0, len(episodes), batch_size):
        batch = episodes[begin : begin + batch_size]
        actions = np.stack([_actions(episode) for episode in batch])
        first = np.stack([episode.frames[:1] for episode in batch])
        keys = episode_seeds(seed, [str(episode.seed) for episode in batch], "world")
        state, film = model.init(first, actions[:, :0], keys), [first[:, 0]]
        detector.reset([world.config.instructions[0]] * len(batch), list(range(len(batch))))
        for t in range(actions.shape[1]):
            state = model.step(state, actions[:, t])
            film.append(model.decode(state.latent).cpu().numpy())
            scores.append(np.asarray(detector.score(film[-1]), dtype=np.float64))
        films.append(np.stack(film, axis=1))
        bar.update(len(batch))
    bar.close()
    steps = len(_actions(episodes[0]))
    frames = np.concatenate(films)
    recorded = np.stack([episode.frames for episode in episodes])
    probabilities, done = np.empty((len(episodes), steps)), 0
    for i, film_batch in enumerate(films):
        rows = len(film_batch)
        probabilities[done : done + rows] = np.stack(scores[i * steps : (i + 1) * steps], axis=1)
        done += rows
    return Replay(
        psnr=psnr(frames[:, 1:], recorded[:, 1:]),
        probabilities=probabilities,
        flags=np.stack([episode.success[1:] for episode in episodes]),
        frames=frames,
        threshold=detector.threshold,
    )


def _actions(episode: Episode) -> npt.NDArray[np.float32]:
    if episode.actions is None:
        raise ValueError(f"the episode with seed {episode.seed} has no actions, so it cannot be replayed")
    return episode.actions
