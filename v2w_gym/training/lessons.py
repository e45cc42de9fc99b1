"""What fine-tuning learns from: clips, some with the recorded past, some with one that the model imagined.

A model that has only ever read recordings goes astray on its own frames, each small error feeding the next.
So part of the clips get the past that the model itself imagines, step by step, from their first frame and
their actions, while what it should predict stays the recording: it learns to find back (Talvitie, "Model
regularization for stable sample rollouts", UAI 2014; the idea of DAgger, arXiv 1011.0686, for a model).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from v2w_gym.training.latents import Clips
from v2w_gym.world_model.dynamics import LatentDynamics

Roll = Callable[[Clips, list[int], torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Lesson:
    """A batch.

    Attributes:
        latents: ``(b, f, c, h, w)``, the recording.
        actions: ``(b, f-1, a)``.
        past: ``(b, f-1, c, h, w)``, what is read as the frames before; its first is the recording's.
    """

    latents: torch.Tensor
    actions: torch.Tensor
    past: torch.Tensor


def imagine(
    dynamics: LatentDynamics, clips: Clips, seeds: list[int], reach: torch.Tensor | None = None
) -> torch.Tensor:
    """The clips ``(b, f, c, h, w)`` as the model imagines them from first frame and actions.

    Args:
        dynamics: the model.
        clips: with actions.
        seeds: noise key of each clip.
        reach: ``(b,)`` int64, every so many frames a clip's newest frame is put right; None never does that.
    """
    assert clips.actions is not None
    frames = [clips.latents[:, 0]]
    state = dynamics.init(clips.latents[:, :1], clips.actions[:, :0], seeds)
    for t, action in enumerate(clips.actions.unbind(1), start=1):
        state = dynamics.step(state, action)
        if reach is not None:
            due = (t % reach == 0)[:, None, None, None]
            dynamics.put_right(state, torch.where(due, clips.latents[:, t], state.latent))
        frames.append(state.latent)
    return torch.stack(frames, dim=1)


class Lessons:
    """Draws lessons for ``every`` steps at once, since imagining many clips costs little more than one.

    Args:
        clips: the recordings.
        roll: imagines clips given seeds and reach; see ``imagine``.
        own: share of the lessons whose past is imagined.
        reach: a clip is imagined so many frames on before it is put right, drawn from these. What went wrong
            longer ago than the model can look back it should keep, not guess away.
        midway: share of the draws whose clips begin somewhere in the first half of their episodes, not at the
            first frame, so that the model can also be started from the middle of one.
        every: steps that one draw lasts; pasts are thus imagined by a model at most that old.
        device: where lessons are wanted.
    """

    def __init__(
        self,
        clips: Clips,
        roll: Roll,
        own: float,
        reach: Sequence[int] = (8,),
        midway: float = 0.0,
        every: int = 10,
        device: torch.device | None = None,
    ) -> None:
        self.clips, self.roll, self.own, self.reach = clips, roll, own, reach
        self.midway, self.every = midway, every
        self.device = device or torch.device("cpu")
        self._held: list[Lesson] = []

    def draw(self, rng: np.random.Generator, size: int, step: int) -> Lesson:
        """The lesson of a step; the same for the same model at the last step that ``every`` divides."""
        if step % self.every == 0 or not self._held:
            self._held = self._imagined(rng, size)
        return self._held.pop()

    def _imagined(self, rng: np.random.Generator, size: int) -> list[Lesson]:
        drawn = self.clips.draw(rng, size * self.every).to(self.device)
        if drawn.actions is None:
            raise ValueError("fine-tuning needs actions")
        half = drawn.latents.shape[1] // 2
        begin = int(rng.integers(1, half + 1)) if rng.random() < self.midway else 0
        latents, actions = drawn.latents[:, begin:], drawn.actions[:, begin:]
        past = latents[:, :-1].clone()
        own = torch.from_numpy(rng.random(len(past)) < self.own).to(self.device)
        if own.any():
            given = Clips(latents[own][:, :-1], actions[own][:, :-1])
            seeds = rng.integers(2**31, size=len(given.latents)).tolist()
            reach = torch.from_numpy(rng.choice(self.reach, len(seeds))).to(self.device)
            past[own] = self.roll(given, seeds, reach)
        parts = zip(latents.split(size), actions.split(size), past.split(size), strict=True)
        return [Lesson(*part) for part in parts]
