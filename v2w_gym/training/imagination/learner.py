"""Actor and critic learn from imagined steps."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDict
from torch import nn

from v2w_gym.policies.actor import Actor
from v2w_gym.training.imagination.critic import Critic, CriticConfig, SlowCritic
from v2w_gym.training.imagination.returns import ReturnRange, lambda_returns
from v2w_gym.training.imagination.rollout import log_prob


@dataclass(frozen=True)
class LearnerConfig:
    """How to learn from a batch of imagined steps.

    Attributes:
        discount: per step.
        trace: lambda of the returns.
        entropy: weight of the entropy of the actions.
        anchor: weight of the divergence from the policy that training began with, which keeps the actor where
            that one was sensible; 0 lets it go.
        epochs: how often each step is learned from. Imagining costs far more than learning. Beyond the first
            time, the ratio of the probabilities makes up for the actor having changed.
        clip: how far that ratio counts, from 1 - clip to 1 + clip (PPO, arXiv 1707.06347, equation 7). With
            one epoch and one part it is always 1, and the gradient that of REINFORCE with a baseline.
        parts: optimiser steps per epoch.
        actor_rate: learning rate of the actor.
        critic_rate: learning rate of the critic.
        grad_clip: largest norm of the gradient of either.
        warmup: updates in which the critic learns alone; over as many that follow the actor's rate rises step
            by step, since the first steps of Adam are of full length whatever the gradient is worth.
        range_floor: smallest divisor of advantages, see ``returns.ReturnRange``.
        critic: sizes of the critic.
    """

    discount: float = 0.97
    trace: float = 0.95
    entropy: float = 3e-4
    anchor: float = 0.0
    epochs: int = 3
    clip: float = 0.2
    parts: int = 2
    actor_rate: float = 3e-4
    critic_rate: float = 1e-3
    grad_clip: float = 1.0
    warmup: int = 4
    range_floor: float = 1.0
    critic: CriticConfig = field(default_factory=CriticConfig)

    def __post_init__(self) -> None:
        if not (0.0 <= self.discount <= 1.0 and 0.0 <= self.trace <= 1.0):
            raise ValueError(f"discount and trace must lie in 0..1, got {self.discount:g} and {self.trace:g}")
        if min(self.epochs, self.parts) < 1 or min(self.clip, self.range_floor) <= 0:
            raise ValueError(
                "epochs and parts must be at least 1, clip and range_floor above 0, "
                f"got {self.epochs}, {self.parts}, {self.clip:g} and {self.range_floor:g}"
            )
        if min(self.warmup, self.entropy, self.anchor) < 0:
            raise ValueError(
                "warmup, entropy and anchor must not be negative, "
                f"got {self.warmup}, {self.entropy:g} and {self.anchor:g}"
            )


class Learner:
    """The networks that learn, and all that their next update depends on.

    Args:
        actor: who acts; changed in place.
        config: how to learn.
    """

    def __init__(self, actor: Actor, config: LearnerConfig) -> None:
        device = next(actor.parameters()).device
        self.config, self.actor = config, actor
        self.critic = Critic(actor.shape, config.critic).to(device)
        self.slow = SlowCritic(self.critic)
        self.origin = copy.deepcopy(actor).requires_grad_(False)
        self.range = ReturnRange(floor=config.range_floor)
        self.updates = 0
        self.optimizers = {
            "actor": torch.optim.Adam(actor.parameters(), config.actor_rate, eps=1e-5),
            "critic": torch.optim.Adam(self.critic.parameters(), config.critic_rate, eps=1e-5),
        }

    def update(self, batch: TensorDict, generator: torch.Generator) -> dict[str, float]:
        """Learn from steps ``[b, f]`` as ``rollout.unroll`` gives them.

        Args:
            batch: the steps.
            generator: shuffles them; on the CPU.

        Returns:
            Means over the update, by name.
        """
        steps, told = self._judged(batch)
        sums: dict[str, torch.Tensor] = {}
        rounds = self.config.epochs * self.config.parts
        for epoch in range(self.config.epochs):
            order = torch.randperm(len(steps), generator=generator).to(steps.device)
            for part, rows in enumerate(order.chunk(self.config.parts)):
                self._ramp(epoch * self.config.parts + part)
                for name, value in self._descend(steps[rows]).items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value / rounds
                self.slow.follow(self.critic)
        self.updates += 1
        return {name: float(value) for name, value in {**told, **sums}.items()}

    def _ramp(self, step: int) -> None:
        """Set the actor's rate for a step of this update."""
        config, rounds = self.config, self.config.epochs * self.config.parts
        taken = (self.updates - config.warmup) * rounds + step + 1
        share = min(1.0, taken / (config.warmup * rounds)) if config.warmup else 1.0
        for group in self.optimizers["actor"].param_groups:
            group["lr"] = config.actor_rate * max(0.0, share)

    def _judged(self, batch: TensorDict) -> tuple[TensorDict, dict[str, torch.Tensor]]:
        """The steps that count ``[n]``, with ``returns`` and ``advantage``, and what to tell of them."""
        after = batch["next"]
        value, ahead = self.slow.values(batch["latent"]), self.slow.values(after["latent"])
        returns = lambda_returns(
            after["reward"],
            after["terminated"],
            after["truncated"],
            ahead,
            self.config.discount,
            self.config.trace,
        )
        running = batch["running"]
        scale = self.range.update(returns[running])
        steps = batch.select("latent", "sample", "log_prob", "weight").clone()
        steps["returns"], steps["advantage"] = returns, (returns - value) / scale
        told = {"return": returns[running].mean(), "value": value[running].mean(), "return_range": scale}
        return steps[running], told

    def _descend(self, steps: TensorDict) -> dict[str, torch.Tensor]:
        weight = steps["weight"] / steps["weight"].mean().clamp(min=1e-6)
        critic_loss = (weight * self.critic.loss(steps["latent"], steps["returns"])).mean()
        norms = {"critic_norm": self._take("critic", self.critic, critic_loss)}
        if self.updates < self.config.warmup:
            return {"critic_loss": critic_loss.detach(), **norms}
        actor_loss, told = self._actor_loss(steps, weight)
        norms["actor_norm"] = self._take("actor", self.actor, actor_loss)
        return {"critic_loss": critic_loss.detach(), "actor_loss": actor_loss.detach(), **told, **norms}

    def _actor_loss(
        self, steps: TensorDict, weight: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """DreamerV3, "Actor learning", with the ratio of PPO and the divergence from the origin."""
        mean, spread = self.actor(steps["latent"])
        ratio = (log_prob(steps["sample"], mean, spread) - steps["log_prob"]).exp()
        clipped = ratio.clamp(1.0 - self.config.clip, 1.0 + self.config.clip)
        gain = torch.minimum(ratio * steps["advantage"], clipped * steps["advantage"])
        mine = torch.distributions.Normal(mean, spread, validate_args=False)
        entropy = mine.entropy().sum(dim=-1)
        loss = -gain - self.config.entropy * entropy
        told = {"entropy": entropy, "spread": spread, "ratio_off": (ratio - 1.0).abs()}
        if self.config.anchor > 0:
            with torch.no_grad():
                before, width = self.origin(steps["latent"])
                origin = torch.distributions.Normal(before, width, validate_args=False)
            told["divergence"] = torch.distributions.kl_divergence(mine, origin).sum(dim=-1)
            loss = loss + self.config.anchor * told["divergence"]
        return (weight * loss).mean(), {name: value.detach().mean() for name, value in told.items()}

    def _take(self, name: str, module: nn.Module, loss: torch.Tensor) -> torch.Tensor:
        """One optimiser step; gives the norm of the gradient."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(module.parameters(), self.config.grad_clip, error_if_nonfinite=True)
        optimizer.step()
        return norm.detach()

    def state_dict(self) -> dict[str, Any]:
        """All that the next update depends on."""
        modules = {
            "actor": self.actor,
            "critic": self.critic,
            "slow": self.slow.critic,
            "origin": self.origin,
        }
        return {
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "range": self.range.value,
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on what :meth:`state_dict` gave."""
        modules = {
            "actor": self.actor,
            "critic": self.critic,
            "slow": self.slow.critic,
            "origin": self.origin,
        }
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.range.value, self.updates = state["range"], state["updates"]
