"""How good the actor is on starts that it never learned from, and what speaks for believing that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from v2w_gym.policies.actor import Actor
from v2w_gym.shapes import vouched
from v2w_gym.training.imagination.recordings import Recordings
from v2w_gym.training.imagination.rollout import Dream, LatentJudge

_GRACE = 2  # frames after the first success that the auditor may look at, too: judges differ by a frame or so


@dataclass(frozen=True)
class ProbeConfig:
    """Looks at held-out starts.

    Attributes:
        every: updates between two looks.
        episodes: how many, each from the first frame of a held-out recording.
        steps: their length; None takes the world's horizon.
        patience: looks without a better one after which training stops; 0 never stops.
        real: episodes of each look in Meta-World, too, from the first of these starts; they only feed the
            alarm and the log. 0 leaves reality alone.
    """

    every: int = 20
    episodes: int = 48
    steps: int | None = None
    patience: int = 0
    real: int = 0

    def __post_init__(self) -> None:
        if min(self.every, self.episodes) < 1 or (self.steps is not None and self.steps < 1):
            raise ValueError(
                "a look needs every, episodes and steps of at least 1, "
                f"got {self.every}, {self.episodes} and {self.steps}"
            )
        if self.patience < 0 or self.real < 0:
            raise ValueError(f"patience and real must not be negative, got {self.patience} and {self.real}")


@dataclass(frozen=True)
class Look:
    """What a look found.

    Attributes:
        won: whether the judge, who gives the reward, calls an episode a success; one for each start.
        confirmed: share, 0..1, that the auditor, who gives none, calls a success as well.
        credibility: mean over the imagined steps, 0..1; 1 where the world cannot tell.
    """

    won: tuple[bool, ...]
    confirmed: float
    credibility: float

    @property
    def success(self) -> float:
        """Share of episodes that the judge calls a success, 0..1."""
        return sum(self.won) / len(self.won)

    @property
    def agreement(self) -> float:
        """One minus the share of episodes with a success that the auditor denies."""
        return 1.0 - (self.success - self.confirmed)


@torch.no_grad()
def look(dream: Dream, auditor: LatentJudge, actor: Actor, starts: Recordings, steps: int) -> Look:
    """Let the actor's mean act from the first frame of every episode of ``starts``.

    Every look meets the same noise. An episode ends shortly after its first success.

    Args:
        dream: what to imagine with; its ``doubt`` is not used.
        auditor: somebody else than ``dream.judge``.
        actor: who acts.
        starts: held out.
        steps: length of an episode.
    """
    count = len(starts)
    latents, actions = starts.until(np.arange(count), 0)
    state = dream.dynamics.init(latents, actions, list(range(count)))
    alive = torch.arange(count, device=latents.device)
    won = torch.full((count,), steps + 1, device=latents.device)  # the step of the first success
    confirmed = torch.zeros(count, dtype=torch.bool, device=latents.device)
    believed: list[torch.Tensor] = []
    for step in range(1, steps + 1):
        state = dream.dynamics.step(state, vouched(actor(state.latent)[0]))
        hit = dream.judge(state.latent) >= dream.judge.threshold
        if dream.believer is not None:
            age = torch.full_like(alive, step)
            before = won[alive] > steps
            believed.append(dream.believer.credibility(state, age)[before])
        won[alive] = torch.where(hit, won[alive].clamp(max=step), won[alive])
        recent = torch.nonzero(won[alive] <= step)[:, 0]
        if len(recent):
            sure = auditor(state.latent[recent]) >= auditor.threshold
            confirmed[alive[recent]] |= sure
        on = torch.nonzero(won[alive] + _GRACE > step)[:, 0]
        if not len(on):
            break
        if len(on) < len(alive):
            state, alive = state[on], alive[on]
    return Look(
        won=tuple((won <= steps).tolist()),
        confirmed=float(confirmed.float().mean()),
        credibility=float(torch.cat(believed).mean()) if believed else 1.0,
    )
