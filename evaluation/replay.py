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
from v2w_gym.evaluation.metrics import psnr
from v2w_gym.evaluation.protocol import episode_seeds

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Replay:
    """What became of ``n`` replayed episodes over ``steps`` imagined frames.

    Attributes:
        psnr: ``(n, steps)`` dB, imagined frame against recorded frame.
        probabilities: ``(n, steps)``, the detector on imagined frames.
        flags: ``(n, steps)`` bool, the simulator's flag of the recorded frames.
        frames: ``(n, given + steps, h, w, 3)`` uint8; the last of the given frames is as the codec gives it
            back, so that nothing but the world's own steps lies between it and those that follow.
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


def replay(
    world: World,
    episodes: Sequence[Episode],
    *,
    given: int = 1,
    batch_size: int = 32,
    seed: int = 0,
    device: str = "cpu",
    sampler: str | Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Replay:
    """Imagine every episode from its first frames and its actions; all must be equally long.

    Args:
        world: where.
        episodes: what was recorded.
        given: how many recorded frames the world starts from.
        batch_size: most episodes imagined together.
        seed: of the noise.
        device: where the world model runs.
        sampler: preset or values of the sampler, as ``World.model`` takes them.
        progress: show a progress bar.

    Raises:
        ValueError: an episode without actions, of another length than the first, or no longer than ``given``.
    """
    actions = _actions(episodes, given)
    model, detector = world.model(device, sampler), world.detector(device)
    films, scores = [], []
    bar = tqdm(total=len(episodes), desc="replay", unit="ep", disable=not progress)
    for begin in range(0, len(episodes), batch_size):
        batch, drive = episodes[begin : begin + batch_size], actions[begin : begin + batch_size]
        context = np.stack([episode.frames[:given] for episode in batch])
        keys = episode_seeds(seed, [str(episode.seed) for episode in batch], "world")
        detector.reset([world.config.instructions[0]] * len(batch), list(range(len(batch))))
        state = model.init(context, drive[:, : given - 1], keys)
        film, judged = [model.decode(state.latent).cpu().numpy()], []
        for t in range(given - 1, drive.shape[1]):
            state = model.step(state, drive[:, t])
            film.append(model.decode(state.latent).cpu().numpy())
            judged.append(np.asarray(detector.score(film[-1]), dtype=np.float64))
        films.append(np.concatenate([context[:, :-1], np.stack(film, axis=1)], axis=1))
        scores.append(np.stack(judged, axis=1))
        bar.update(len(batch))
    bar.close()
    frames = np.concatenate(films)
    recorded = np.stack([episode.frames[given:] for episode in episodes])
    return Replay(
        psnr=psnr(frames[:, given:], recorded),
        probabilities=np.concatenate(scores),
        flags=np.stack([episode.success[given:] for episode in episodes]),
        frames=frames,
        threshold=detector.threshold,
    )


def _actions(episodes: Sequence[Episode], given: int) -> npt.NDArray[np.float32]:
    """All actions ``(n, steps, a)``."""
    actions, length = [], len(episodes[0])
    for episode in episodes:
        if episode.actions is None:
            raise ValueError(f"the episode with seed {episode.seed} has no actions, so it cannot be replayed")
        if len(episode) != length or length <= given:
            raise ValueError(
                f"episodes that are replayed together must be equally long and longer than {given} frames, "
                f"got {len(episode)} frames (seed {episode.seed}) beside {length}; cut them first"
            )
        actions.append(episode.actions)
    return np.stack(actions)
