"""Imagined episodes for Stable-Baselines3: all slots of a ``VecEnv`` denoised in one batch."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnv,
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from v2w_gym.data.episode import FrameArray
from v2w_gym.envs.slot import Slot
from v2w_gym.envs.vector import WorldModelVectorEnv


class SB3VecEnv(VecEnv):
    """A vector environment as Stable-Baselines3 wants it; equals its ``DummyVecEnv`` of single environments.

    ``VecMonitor`` around it counts episodes; ``VecTransposeImage`` and ``VecFrameStack`` fit as usual.

    Args:
        envs: from ``gymnasium.make_vec``, bare or in vector wrappers, e.g. ``VectorArmActions``. Its
            ``autoreset_mode`` must be ``"same_step"``, its ``output`` ``"numpy"``; both are the default.

    Attributes:
        vector_env: the same, for what Stable-Baselines3 does not know: snapshots, forks.

    Raises:
        ValueError: no vector environment of this package, or one of another autoreset mode or output.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        self._slots = _slots_of(envs)
        self.vector_env = envs
        self._rows = DictInfoToList(envs)
        self._actions: Any = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> VecEnvObs:
        """Begin new episodes in all slots, with the seeds and options that were set since the last reset.

        Raises:
            ValueError: options that do not fit; all episodes go on undisturbed.
        """
        named = {key for options in self._options for key in options}
        options = {key: [own.get(key) for own in self._options] for key in named}
        observations, infos = self._rows.reset(seed=self._seeds, options=options)
        self.reset_infos = [_plain(info) for info in infos]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take the actions, with a leading slot axis; ``step_wait`` computes."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Imagine the next frame of every slot; slots whose episode ends begin another one.

        Returns:
            Observations, rewards float32, dones, one info per slot. At the end of an episode the info is its
            last one, with its last frame in ``"terminal_observation"``; the new episode's is in
            ``reset_infos``.
        """
        observations, rewards, terminated, truncated, infos = self._rows.step(self._actions)
        dones = terminated | truncated
        told = []
        for i, info in enumerate(infos):
            last, final = info.pop("final_obs", None), info.pop("final_info", info)
            cut = bool(truncated[i] and not terminated[i])
            told.append(_plain(final) | {"TimeLimit.truncated": cut})
            if dones[i]:
                told[i]["terminal_observation"], self.reset_infos[i] = last, _plain(info)
        return observations, rewards.astype(np.float32), dones, told

    def close(self) -> None:
        """Close the vector environment."""
        self.vector_env.close()

    def get_images(self) -> list[FrameArray | None]:
        """The newest frame of each slot; None without ``render_mode="rgb_array"``."""
        frames: Any = self.vector_env.render() if self.render_mode == "rgb_array" else None
        if frames is None:
            warnings.warn(
                f"there are no images with render_mode={self.render_mode!r}; make the environment with "
                'gymnasium.make_vec(id, num_envs=n, render_mode="rgb_array")',
                stacklevel=2,
            )
            return [None] * self.num_envs
        return list(frames)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of the given slots, or of all."""
        return [getattr(slot, attr_name) for slot in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the attribute of the given slots, or of all, to one value.

        Raises:
            AttributeError: the attribute is a fact of the environment, fixed at construction.
        """
        for slot in self._chosen(indices):
            setattr(slot, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call the method of the given slots, or of all."""
        return [getattr(slot, method_name)(*args, **kwargs) for slot in self._chosen(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """False for each slot: wrappers of single environments have no place around a slot."""
        return [False for _ in self._chosen(indices)]

    def _chosen(self, indices: VecEnvIndices) -> list[Slot]:
        return [self._slots[i] for i in self._get_indices(indices)]


def _slots_of(envs: VectorEnv[Any, Any, Any]) -> list[Slot]:
    """The slots of an environment that fits."""
    base = getattr(envs, "unwrapped", None)
    if not isinstance(base, WorldModelVectorEnv):
        raise ValueError(
            f"SB3VecEnv needs a vector environment of this package, got {type(envs).__name__}; "
            'make one with gymnasium.make_vec("v2w_gym:Vid2World-DrawerClose-v0", num_envs=8)'
        )
    if base.autoreset_mode is not AutoresetMode.SAME_STEP:
        raise ValueError(
            "Stable-Baselines3 needs ended episodes to be followed by new ones in the same step, got "
            f"autoreset_mode {base.autoreset_mode.name.lower()!r}; make the environment with "
            'gymnasium.make_vec(id, num_envs=n, autoreset_mode="same_step")'
        )
    if base._settings.output != "numpy":
        raise ValueError(
            f"Stable-Baselines3 reads NumPy arrays, got output={base._settings.output!r}; "
            "leave output out when you make the environment"
        )
    return base.envs


def _plain(info: dict[str, Any]) -> dict[str, Any]:
    """The info with numbers as the single environment has them, not as elements of an array."""
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in info.items()}
