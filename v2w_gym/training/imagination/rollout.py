"""Imagined steps as a TensorDict, straight from the states of a world model: nothing passes by the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from tensordict import TensorDict

from v2w_gym.policies.actor import Actor
from v2w_gym.shapes import vouched
from v2w_gym.world_model.base import Believer

Doubt = Literal["ignore", "cut", "weigh"]


class Dynamics(Protocol):
    """What imagination asks of a world model; ``world_model.dynamics.LatentDynamics`` is one."""

    def init(self, latents: torch.Tensor, actions: torch.Tensor, seeds: list[int]) -> Any:
        """A state after frames ``(b, f, c, h, w)`` and actions ``(b, f-1, a)``; a noise seed per slot."""
        ...

    def step(self, state: Any, action: torch.Tensor) -> Any:
        """The state one frame later; ``action`` is ``(b, a)``. The given state is left as it was."""
        ...


class LatentJudge(Protocol):
    """Says whether a latent shows success."""

    @property
    def threshold(self) -> float:
        """Probability from which a latent counts as success."""
        ...

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Probability of success ``(b,)`` in 0..1 of latents ``(b, c, h, w)``, on their device."""
        ...


@dataclass(frozen=True)
class Dream:
    """What steps are imagined with.

    Attributes:
        dynamics: the world model.
        judge: says which frames are a success; the first one earns a reward of 1 and ends the episode.
        believer: says how far a frame can be believed; None believes all.
        doubt: what is done about frames that cannot: "ignore" nothing, "cut" truncates a branch at the first
            one below ``believer.credible_from``, "weigh" gives each step the product of the credibilities up
            to it as its weight.
    """

    dynamics: Dynamics
    judge: LatentJudge
    believer: Believer | None = None
    doubt: Doubt = "cut"


@dataclass
class Branches:
    """Imagined futures of recorded moments, a slot each.

    Attributes:
        state: of the world model.
        age: ``(b,)`` int64, steps imagined so far.
        left: ``(b,)`` int64, steps until the branch is truncated.
        weight: ``(b,)`` float32, product of the credibilities so far.
        ended: ``(b,)`` bool, terminated or truncated.
    """

    state: Any
    age: torch.Tensor
    left: torch.Tensor
    weight: torch.Tensor
    ended: torch.Tensor

    @classmethod
    def of(cls, state: Any, left: torch.Tensor) -> Branches:
        """Branches that begin with ``state``."""
        age, weight = torch.zeros_like(left), torch.ones_like(left, dtype=torch.float32)
        return cls(state, age, left, weight, torch.zeros_like(left, dtype=torch.bool))

    def assign(self, rows: torch.Tensor, fresh: Branches) -> None:
        """Put ``fresh`` into the slots ``rows`` ``(n,)`` int64."""
        self.state[rows] = fresh.state
        self.age[rows], self.left[rows] = fresh.age, fresh.left
        self.weight[rows], self.ended[rows] = fresh.weight, fresh.ended


@torch.no_grad()
def unroll(
    dream: Dream, actor: Actor, branches: Branches, steps: int, generator: torch.Generator | None
) -> tuple[TensorDict, Branches]:
    """Let ``actor`` act for ``steps`` steps in every branch.

    A branch that ends is imagined on to the end of the call, since stopping it would mean to wait for the
    device; those steps do not count (``running`` is False).

    Args:
        dream: what to imagine with.
        actor: who acts.
        branches: where; left as they were.
        steps: how many.
        generator: draws the actions, on the device of the state; None takes the actor's mean.

    Returns:
        The steps, and the branches after them. The TensorDict has the batch axes ``[b, f]``, by the names of
        TorchRL: ``latent`` ``(b, f, c, h, w)``, what was seen; ``action`` ``(b, f, a)``, what was done;
        ``sample``, the same before it was clipped, and ``log_prob`` ``(b, f)`` of that; ``running``, the step
        belongs to an episode; ``weight``, what it counts; and under ``next``: ``latent``, ``reward``,
        ``terminated``, ``truncated``, ``done``, ``success_prob`` and ``credibility``.
    """
    now, rows = branches, []
    for _ in range(steps):
        row, now = _step(dream, actor, now, generator)
        rows.append(row)
    batch: TensorDict = torch.stack(rows, dim=1)
    return batch, now


def _step(
    dream: Dream, actor: Actor, before: Branches, generator: torch.Generator | None
) -> tuple[TensorDict, Branches]:
    latent = before.state.latent
    mean, spread = actor(latent)
    sample = mean
    if generator is not None:
        sample = mean + spread * torch.randn(mean.shape, generator=generator, device=mean.device)
    action = sample.clamp(-1.0, 1.0)
    state = dream.dynamics.step(before.state, vouched(action))
    age, left = before.age + 1, before.left - 1
    success_prob = dream.judge(state.latent)
    terminated = success_prob >= dream.judge.threshold
    truncated = left <= 0
    credibility = torch.ones_like(success_prob)
    if dream.believer is not None:
        credibility = dream.believer.credibility(state, age)
        if dream.doubt == "cut":
            truncated = truncated | (credibility < dream.believer.credible_from)
    weight = before.weight * credibility if dream.doubt == "weigh" else before.weight
    done, running = terminated | truncated, ~before.ended
    row = {
        "latent": latent,
        "action": action,
        "sample": sample,
        "log_prob": log_prob(sample, mean, spread),
        "running": running,
        "weight": weight * running,
        "next": {
            "latent": state.latent,
            "reward": terminated.to(latent.dtype),
            "terminated": terminated,
            "truncated": truncated & ~terminated,
            "done": done,
            "success_prob": success_prob,
            "credibility": credibility,
        },
    }
    after = Branches(state, age, left, weight, before.ended | done)
    return TensorDict(row, batch_size=[len(latent)]), after


def log_prob(sample: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Log density ``(...)`` of actions ``(..., a)`` under independent normal distributions."""
    density = torch.distributions.Normal(mean, spread, validate_args=False).log_prob(sample)
    total: torch.Tensor = density.sum(dim=-1)
    return total
