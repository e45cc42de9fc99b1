"""Options of a spec that make a policy fit a world: ``PREFIX:...,world=WORLD,gripper=sticky,clip=true``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from v2w_gym.envs.world import World
from v2w_gym.policies.adapted import adapt
from v2w_gym.policies.base import Policy


@dataclass(frozen=True)
class Fit:
    """What :func:`~v2w_gym.policies.adapted.adapt` is told.

    Attributes:
        world: a registered id, a folder or a hub id; None leaves actions as the policy gives them.
        gripper: how a state becomes a command.
        clip: whether values beyond the world's ranges are cut off.
    """

    world: str | None = None
    gripper: Literal["follow", "sticky"] | None = None
    clip: bool = False

    def opened(self) -> World | None:
        """The world, if one is named."""
        return None if self.world is None else World.open(self.world)

    def fit(self, policy: Policy, world: World | None) -> Policy:
        """The policy, adapted to ``world`` where there is one.

        Raises:
            ContractMismatch: what cannot be adapted.
            ValueError: ``gripper`` or ``clip`` without a world.
        """
        if world is not None:
            return adapt(policy, world, gripper=self.gripper, clip=self.clip)
        if self.gripper is not None or self.clip:
            raise ValueError("gripper and clip say how to fit a world; name it: world=ID_OR_FOLDER")
        return policy
