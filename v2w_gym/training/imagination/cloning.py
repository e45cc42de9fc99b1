"""A warm start: the actor imitates a policy, or the actions of recorded episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from v2w_gym.data.episode import Episode
from v2w_gym.policies.actor import Actor
from v2w_gym.policies.base import Policy
from v2w_gym.policies.registry import resolve
from v2w_gym.training.imagination.recordings import Recordings
from v2w_gym.training.loop import Loop, LoopConfig, Losses


@dataclass(frozen=True)
class CloneConfig:
    """What to imitate.

    Attributes:
        teacher: a policy as ``policies.resolve`` takes it, which says what it would do at each recorded
            frame; None takes what was done there.
        behaviours: only episodes of these, e.g. ``expert``; none takes all.
        episodes: at most so many.
        noise: largest deviation of the noise on a latent; imagined ones are a little off.
        loop: the item of a batch is a frame. Its device is not read: that of the run is taken.
    """

    teacher: str | None = None
    behaviours: tuple[str, ...] = ()
    episodes: int = 300
    noise: float = 0.1
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=600, batch_size=128, learning_rate=1e-3, warmup=50, ema=0.99, precision="fp32"
        )
    )

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.noise < 0:
            raise ValueError(
                "a clone needs episodes of at least 1 and a noise of at least 0, "
                f"got {self.episodes} and {self.noise:g}"
            )


def clone(config: CloneConfig, recordings: Recordings, actor: Actor, instruction: str, out: Path) -> None:
    """Make ``actor`` imitate, or go on with it if ``out`` holds a checkpoint.

    Args:
        config: what.
        recordings: with files.
        actor: changed in place.
        instruction: what the teacher is asked to do.
        out: folder of checkpoint and curve.

    Raises:
        ValueError: no episode of these behaviours.
    """
    rows = _rows(config, recordings)
    chosen = recordings.part(rows)
    teacher = None if config.teacher is None else resolve(config.teacher)
    wanted = chosen.actions if teacher is None else _taught(teacher, chosen, instruction)
    latents = chosen.latents[:, : wanted.shape[1]].flatten(0, 1)
    labels = wanted.flatten(0, 1).to(latents.device)
    loop = Loop(actor, replace(config.loop, device=str(latents.device)), out)

    def batch(rng: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        picked = torch.from_numpy(rng.integers(0, len(latents), size)).to(latents.device)
        return latents[picked].float(), labels[picked]

    def loss(batch: tuple[torch.Tensor, torch.Tensor], generator: torch.Generator) -> Losses:
        x, target = batch
        size = torch.rand(len(x), 1, 1, 1, generator=generator) * config.noise
        x = x + (size * torch.randn(x.shape, generator=generator)).to(x)
        return {"loss": F.smooth_l1_loss(actor(x)[0], target, beta=0.2)}

    loop.fit(batch, loss)
    averaged = loop.with_average(lambda: {k: v.clone() for k, v in actor.state_dict().items()})
    actor.load_state_dict(averaged)


def _rows(config: CloneConfig, recordings: Recordings) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    rows = np.arange(len(recordings))
    if config.behaviours:
        known = [_behaviour(file) for file in recordings.files]
        rows = np.array([row for row in rows if known[row] in config.behaviours], dtype=np.intp)
        if not len(rows):
            raise ValueError(
                f"no recorded episode is of the behaviours {list(config.behaviours)}; "
                f"there are {sorted(set(known))}"
            )
    return rows[: config.episodes]


def _behaviour(path: Path) -> str:
    with np.load(path, allow_pickle=False) as file:
        return str(file["behaviour"])


def _taught(teacher: Policy, recordings: Recordings, instruction: str) -> torch.Tensor:
    """What the teacher would do at each frame, ``(n, f, a)``: it watches all episodes side by side."""
    frames = np.stack([Episode.load(file).frames for file in recordings.files])
    slots = list(range(len(frames)))
    for name, arguments in (("seed", (slots,)), ("reset", ([instruction] * len(slots), slots))):
        method: Callable[..., None] | None = getattr(teacher, name, None)
        if method is not None:
            method(*arguments)
    said = [np.asarray(teacher.act({"pixels": frames[:, t]}), np.float32) for t in range(frames.shape[1])]
    return torch.from_numpy(np.stack(said, axis=1)).clamp(-1.0, 1.0)
