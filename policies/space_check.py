"""Policies that know what spaces they were trained for, held against a world's before the first episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from v2w_gym.envs import spaces
from v2w_gym.envs.actions import actions_of
from v2w_gym.envs.settings import Settings
from v2w_gym.envs.world import World, WorldConfig


def check_spaces(policies: Mapping[str, Any], world: World | WorldConfig) -> None:
    """Call ``check_spaces(observation_space, action_space)`` of every policy that has it.

    Raises:
        ValueError: of the first that does not fit, with its name.
    """
    config = world.config if isinstance(world, World) else world
    for name, policy in policies.items():
        if callable(getattr(policy, "check_spaces", None)):
            observations = spaces.observation_space(config, Settings())
            try:
                policy.check_spaces(observations, actions_of(config.action).space)
            except ValueError as error:
                raise ValueError(f"policy {name!r}: {error}") from error
