"""v2w_gym: causal video-diffusion world models as Gymnasium environments.

Importing the package registers the environment ids and imports neither torch nor diffusers; the public names
below are loaded when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from v2w_gym import registration

if TYPE_CHECKING:
    from v2w_gym.data.outside import starts_from
    from v2w_gym.data.starts import Context, StartContexts
    from v2w_gym.envs.arm import ArmActions, VectorArmActions
    from v2w_gym.envs.keyboard import press
    from v2w_gym.envs.single import WorldModelEnv
    from v2w_gym.envs.snapshot import Snapshot
    from v2w_gym.envs.vector import WorldModelVectorEnv
    from v2w_gym.envs.world import World, WorldConfig, write_hashes
    from v2w_gym.evaluation import rank
    from v2w_gym.policies.base import Policy
    from v2w_gym.rewards.base import SuccessDetector
    from v2w_gym.training.sb3 import SB3VecEnv
    from v2w_gym.training.torchrl import TorchRLEnv
    from v2w_gym.world_model.base import WorldModel
    from v2w_gym.world_model.vid2world import Vid2World

__version__ = "0.1.0"

_HOMES = {
    "ArmActions": "v2w_gym.envs.arm",
    "Context": "v2w_gym.data.starts",
    "Policy": "v2w_gym.policies.base",
    "SB3VecEnv": "v2w_gym.training.sb3",
    "Snapshot": "v2w_gym.envs.snapshot",
    "StartContexts": "v2w_gym.data.starts",
    "SuccessDetector": "v2w_gym.rewards.base",
    "TorchRLEnv": "v2w_gym.training.torchrl",
    "VectorArmActions": "v2w_gym.envs.arm",
    "Vid2World": "v2w_gym.world_model.vid2world",
    "World": "v2w_gym.envs.world",
    "WorldConfig": "v2w_gym.envs.world",
    "WorldModel": "v2w_gym.world_model.base",
    "WorldModelEnv": "v2w_gym.envs.single",
    "WorldModelVectorEnv": "v2w_gym.envs.vector",
    "press": "v2w_gym.envs.keyboard",
    "rank": "v2w_gym.evaluation",
    "starts_from": "v2w_gym.data.outside",
    "write_hashes": "v2w_gym.envs.world",
}

__all__ = [
    "ArmActions",
    "Context",
    "Policy",
    "SB3VecEnv",
    "Snapshot",
    "StartContexts",
    "SuccessDetector",
    "TorchRLEnv",
    "VectorArmActions",
    "Vid2World",
    "World",
    "WorldConfig",
    "WorldModel",
    "WorldModelEnv",
    "WorldModelVectorEnv",
    "press",
    "rank",
    "starts_from",
    "write_hashes",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'v2w_gym' has no attribute {name!r}; public names: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


registration.register_all()
