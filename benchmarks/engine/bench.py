"""What is measured: a world, its model, and states and environments of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch

from v2w_gym.envs.vector import WorldModelVectorEnv
from v2w_gym.envs.world import World
from v2w_gym.registration import GENERIC_ID, world_folder
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.vid2world import Vid2World


@dataclass(frozen=True)
class Bench:
    """What is measured, and how thoroughly.

    Attributes:
        name: id or folder of the world.
        world: opened.
        model: of the world.
        device: where it runs.
        rounds: how often a comparison is repeated.
        quick: whether each section leaves out what takes longest.
    """

    name: str
    world: World
    model: Vid2World
    device: str
    rounds: int
    quick: bool

    @classmethod
    def open(cls, name: str, device: str, rounds: int, quick: bool) -> Bench:
        """Load the world.

        Raises:
            SystemExit: its model cannot stream, so there is nothing to compare.
        """
        world = World.open(name)
        model = world.model(device)
        if not isinstance(model, Vid2World) or model.dynamics.sampler.config.history != "stream":
            raise SystemExit(f'--world {name}: expected a world whose sampler has history "stream"')
        return cls(name, world, model, device, rounds, quick)

    @property
    def steps(self) -> int:
        """Denoising steps of the world's own sampler."""
        return len(self.model.dynamics.sampler.levels)

    @property
    def batches(self) -> tuple[int, ...]:
        """Numbers of slots that most sections look at."""
        return (1, 32)

    def begin(self, batch: int) -> WorldState:
        """Episodes that begin at the world's starts, with noise seeds 0, 1, ..."""
        starts = self.world.starts()
        contexts = [starts.by_id(starts.ids[i % len(starts)]) for i in range(batch)]
        frames, actions = (np.stack([getattr(c, part) for c in contexts]) for part in ("frames", "actions"))
        return self.model.init(frames, actions, list(range(batch)))

    def actions(self, batch: int, seed: int = 0) -> npt.NDArray[np.float32]:
        """Random actions ``(batch, a)`` as the model reads them."""
        return np.random.default_rng(seed).uniform(-1, 1, (batch, self.model.action_dim)).astype(np.float32)

    def tensor(self, actions: npt.NDArray[np.float32]) -> torch.Tensor:
        """Actions where the model runs."""
        return torch.from_numpy(actions).to(self.device)

    def env_actions(self, batch: int) -> Any:
        """The same as ``environment`` takes them."""
        return self.actions(batch) if self.device == "cpu" else self.tensor(self.actions(batch))

    def grown(self, state: WorldState, frames: int) -> WorldState:
        """The episodes, so many frames later."""
        for t in range(frames):
            state = self.model.step(state, self.actions(len(state.seed), seed=t))
        return state

    @property
    def id(self) -> tuple[str, dict[str, Any]]:
        """Id, its module before it, and keywords that make an environment of the world."""
        known = world_folder(self.name) is not None
        name, keywords = (self.name, {}) if known else (GENERIC_ID, {"world": self.name})
        return f"v2w_gym:{name.removeprefix('v2w_gym:')}", keywords

    def typed(self, **keywords: Any) -> tuple[str, str]:
        """The same as arguments of a fresh process: the id, and the keywords and these as JSON."""
        name, own = self.id
        return name, json.dumps({**own, **keywords})

    @property
    def endless(self) -> dict[str, Any]:
        """Keywords of vector environments whose episodes do not end, and do not leave the device."""
        return {
            "autoreset_mode": "disabled",
            "terminate_on_success": False,
            "horizon": 1_000_000,
            "device": self.device,
            "output": "numpy" if self.device == "cpu" else "torch",
        }

    def environment(self, batch: int) -> WorldModelVectorEnv:
        """The vector environment a user gets, reset; see ``endless``."""
        name, keywords = self.id
        envs = gymnasium.make_vec(name, num_envs=batch, **self.endless, **keywords)
        envs.reset(seed=0)
        assert isinstance(envs.unwrapped, WorldModelVectorEnv)
        return envs.unwrapped
