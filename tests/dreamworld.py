"""A dynamics in latent space that a few layers can learn to act in: a bump that actions push about.

A latent is ``(1, 4, 4)``: the bump's weight in each cell. Success is the bump in the last column. A planted
exploit: a judge that also rewards the first column, which the auditor does not.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from tensordict import tensorclass

from v2w_gym.training.imagination.recordings import Recordings
from v2w_gym.training.imagination.rollout import Dream

SIDE, PACE = 4, 0.5


@tensorclass
class BumpState:
    latent: torch.Tensor
    frame_index: torch.Tensor
    place: torch.Tensor


def bump(place: torch.Tensor) -> torch.Tensor:
    """Latents ``(n, 1, 4, 4)`` of places ``(n, 2)`` in 0..3, x right and y down."""
    grid = torch.arange(SIDE, dtype=torch.float32, device=place.device)
    x, y = ((1.0 - (place[:, i : i + 1] - grid).abs()).clamp(min=0.0) for i in (0, 1))
    return (y[:, :, None] * x[:, None, :])[:, None]


def place_of(latents: torch.Tensor) -> torch.Tensor:
    grid = torch.arange(SIDE, dtype=torch.float32, device=latents.device)
    return torch.stack([latents.sum(dim=(1, 2)) @ grid, latents.sum(dim=(1, 3)) @ grid], dim=1)


class BumpDynamics:
    def init(self, latents: torch.Tensor, actions: torch.Tensor, seeds: Any) -> BumpState:
        place = place_of(latents[:, -1])
        index = torch.full((len(place),), latents.shape[1] - 1, dtype=torch.int64, device=place.device)
        return BumpState(latents[:, -1], index, place, batch_size=[len(place)])

    def step(self, state: BumpState, action: torch.Tensor) -> BumpState:
        place = (state.place + PACE * torch.as_tensor(action)[:, :2]).clamp(0.0, SIDE - 1.0)
        return BumpState(bump(place), state.frame_index + 1, place, batch_size=state.batch_size)


class RightJudge:
    """The bump is in the last column; or, if it can be fooled, no more than three quarters from the first."""

    threshold = 0.5

    def __init__(self, fooled: bool = False) -> None:
        self.fooled = fooled

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        columns = latents.sum(dim=(1, 2))
        return (columns[:, -1] + (2.0 * columns[:, 0] if self.fooled else 0.0)).clamp(0.0, 1.0)


class Doubter:
    """Believes less the further down the bump is."""

    credible_from = 0.5

    def credibility(self, state: BumpState, steps: Any) -> torch.Tensor:
        return 1.0 - state.place[:, 1] / (SIDE - 1.0)


def bumps(count: int = 40, frames: int = 5, low: float = 1.0, high: float = 1.6) -> Recordings:
    """Recorded walks that begin left of the middle."""
    rng = np.random.default_rng(0)
    place = torch.from_numpy(rng.uniform(low, high, (count, 2)).astype(np.float32))
    state = BumpDynamics().init(bump(place)[:, None], place[:, None], range(count))
    latents, actions = [state.latent], []
    for _ in range(frames - 1):
        actions.append(torch.from_numpy(rng.uniform(-0.5, 0.5, (count, 2)).astype(np.float32)))
        state = BumpDynamics().step(state, actions[-1])
        latents.append(state.latent)
    film = torch.stack(latents, dim=1)
    judged = RightJudge()(film.flatten(0, 1)).unflatten(0, film.shape[:2]) >= 0.5
    judged[:, 0] = False
    begins = [int(row.numpy().argmax()) if row.any() else frames for row in judged]
    return Recordings(film.half(), torch.stack(actions, dim=1), np.array(begins))


def bump_dream(**changes: Any) -> Dream:
    dream = Dream(BumpDynamics(), RightJudge(), None, "ignore")
    return dataclasses.replace(dream, **changes)
