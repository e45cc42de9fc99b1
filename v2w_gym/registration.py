"""The table of environment ids. Ids are registered with strings, so that registering imports no torch."""

from __future__ import annotations

from pathlib import Path

import gymnasium

GENERIC_ID = "Vid2World-v0"
"""The id that opens any world: ``gym.make("v2w_gym:Vid2World-v0", world="path-or-hub-id")``."""

SHIPPED_WORLDS = {"Vid2World-DrawerClose-v0": "drawer_close"}
"""Ids of the worlds inside the package, and the folder of each below ``v2w_gym/worlds``."""

RELEASED_WORLDS = {
    "Vid2World-RT1-v0": "rt1",
    "Vid2World-CSGO-v0": "csgo",
    "Vid2World-RECON-v0": "recon",
}
"""Ids of the worlds whose weights their authors released, and the domain of each. The weights are fetched by
hand: ``gym.make("v2w_gym:Vid2World-RT1-v0", weights="file, folder or hub id")``."""

REMOTE_ID = "Vid2World-Remote-v0"
"""The id of a world that ``v2w serve`` serves: ``gym.make("v2w_gym:Vid2World-Remote-v0", url=...)``."""


def released_domain(env_id: str) -> str | None:
    """Domain of the released world that ``env_id`` (with or without ``v2w_gym:``) names, or None."""
    return RELEASED_WORLDS.get(env_id.removeprefix("v2w_gym:"))


def world_folder(env_id: str) -> Path | None:
    """Folder of the world that ``env_id`` (with or without ``v2w_gym:``) names, or None if it names none."""
    folder = SHIPPED_WORLDS.get(env_id.removeprefix("v2w_gym:"))
    return None if folder is None else Path(__file__).parent / "worlds" / folder


def register_all() -> None:
    """Register every id with Gymnasium, for ``gymnasium.make`` and ``gymnasium.make_vec``.

    There is no ``max_episode_steps`` here: both forms truncate at the horizon of their world by themselves.
    """
    for env_id in (GENERIC_ID, *SHIPPED_WORLDS, *RELEASED_WORLDS):
        gymnasium.register(
            id=env_id,
            entry_point="v2w_gym.envs.single:WorldModelEnv",
            vector_entry_point="v2w_gym.envs.vector:WorldModelVectorEnv",
            kwargs={} if env_id == GENERIC_ID else {"world": env_id},
        )
    gymnasium.register(id=REMOTE_ID, entry_point="v2w_gym.envs.remote:RemoteEnv")
