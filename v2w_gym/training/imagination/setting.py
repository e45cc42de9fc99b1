"""From settings to the parts that a training in imagination is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from v2w_gym.envs.world import World
from v2w_gym.policies.actor import Actor
from v2w_gym.policies.latent import LatentPolicy
from v2w_gym.training.imagination import cloning, recordings
from v2w_gym.training.imagination.config import ImaginationConfig
from v2w_gym.training.imagination.judging import Decoded, distilled
from v2w_gym.training.imagination.recordings import Recordings
from v2w_gym.training.imagination.rollout import Dream, LatentJudge
from v2w_gym.world_model.vid2world import Vid2World


@dataclass(frozen=True)
class Stage:
    """What a training needs beside its settings and its actor.

    Attributes:
        dream: what to imagine with.
        auditor: judges, too, and gives no reward.
        branch_from: recordings to branch from.
        heldout: recordings to look at.
        horizon: steps of an episode.
        moments: frames of a recording that a branch may begin at.
    """

    dream: Dream
    auditor: LatentJudge
    branch_from: Recordings
    heldout: Recordings
    horizon: int
    moments: int


def set_up(config: ImaginationConfig, out: Path) -> tuple[Stage, Actor, Vid2World]:
    """Open the world, encode the recordings, teach the judge, make the actor and its warm start.

    What takes long is kept in ``out``, and taken from there by the next call.

    Raises:
        FileNotFoundError: no such world or recordings.
        ValueError: a world without latents or without a success detector, or settings that do not fit it.
    """
    world = World.open(config.world)
    if world.config.detector.kind == "none":
        raise ValueError(
            f"world {world.config.name!r} has no success detector, so nothing would be rewarded; take another"
        )
    model = world.model(config.device, config.sampler)
    if not isinstance(model, Vid2World):
        raise ValueError(f"imagination acts on the latents of a Vid2World, got a {type(model).__name__}")
    detector = world.detector(config.device)
    found = recordings.load(config.data, model.codec, world.folder / "codec", config.limit)
    branch_from, heldout = recordings.split(found.to(model.device), config.heldout)
    head, agreement = distilled(branch_from, detector, config.judge, config.seed, out / "judge.pt")
    print(f"judge on latents: the verdict of the detector on {agreement:.1%} of recorded frames")
    judges: list[LatentJudge] = [head, Decoded(model, detector)]
    judge, auditor = judges if config.reward == "latent" else reversed(judges)
    believer = world.believer(config.device)
    dream = Dream(model.dynamics, judge, believer, config.doubt)
    horizon = config.look.steps or world.config.horizon
    stage = Stage(dream, auditor, branch_from, heldout, horizon, min(config.moments, model.window))
    actor = _actor(config, branch_from, model, world.config.instructions[0], out)
    return stage, actor, model


def _actor(
    config: ImaginationConfig, found: Recordings, model: Vid2World, instruction: str, out: Path
) -> Actor:
    if config.init is not None:
        actor = LatentPolicy.load(config.init).actor.to(model.device)
        if actor.shape != found.shape or actor.action_dim != model.action_dim:
            raise ValueError(
                f"{config.init} acts on latents {actor.shape} with {actor.action_dim} action components, "
                f"the world has {found.shape} and {model.action_dim}; take a policy of this world"
            )
        return actor
    torch.manual_seed(config.seed)
    actor = Actor(found.shape, model.action_dim, config.actor).to(model.device)
    if config.clone is not None:
        cloning.clone(config.clone, found, actor, instruction, out / "clone")
    return actor
