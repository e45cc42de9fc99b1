"""Imagined episodes for TorchRL: one ``EnvBase`` whose batch is denoised at once, tensors all the way.

Needs ``pip install "v2w_gym[torchrl]"``.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from tensordict import TensorDict, TensorDictBase

from v2w_gym.envs.vector import WorldModelVectorEnv

try:
    from torchrl.data import Binary, Bounded, Composite, Unbounded
    from torchrl.envs import EnvBase
except ImportError as error:
    raise ImportError('TorchRLEnv needs TorchRL: pip install "v2w_gym[torchrl]"') from error

TOLD = ("is_success", "success_prob", "credibility", "judged")
"""Infos that become entries of the tensordict, ``(b, 1)``, where the world has them."""


class TorchRLEnv(EnvBase):
    """A vector environment as TorchRL wants it, with ``batch_size`` ``[b]``; an entry has a row per slot.

    ========================== ================ ==================================================
    entry                      shape, dtype     meaning
    ========================== ================ ==================================================
    ``pixels``                 (b, h, w, 3) u8  the newest frame, 0..255
    ``action``                 (b, a) f32       within the bounds of the world's action space
    ``reward``                 (b, 1) f32       as the setting ``reward`` says
    ``terminated, truncated``  (b, 1) bool      success; horizon or what is not believed
    ``done``                   (b, 1) bool      either of the two
    ``is_success``             (b, 1) bool      whether the newest frame is judged a success
    ``success_prob``           (b, 1) f32       the detector's probability for it
    ``credibility``            (b, 1) f32       how far it can be believed, where the world can tell
    ``judged``                 (b, 1) bool      whether it was judged, where not every frame is
    ========================== ================ ==================================================

    Slots whose episode has ended stand still at no cost until TorchRL resets them, alone, as rollouts with
    ``break_when_any_done=False`` and collectors do. Everything stays on the model's device; flags of a
    few bytes apart, nothing passes through the host.

    Args:
        envs: from ``gymnasium.make_vec`` with ``output="torch"`` and ``autoreset_mode="disabled"``.

    Attributes:
        vector_env: the same, for what TorchRL does not know: snapshots, forks.

    Raises:
        ValueError: no vector environment of this package, one of another autoreset mode or output, or one
            whose actions are no plain vector.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        base = _fitting(envs)
        slots = envs.num_envs
        super().__init__(device=base._parts.model.device, batch_size=torch.Size([slots]))
        self.vector_env = envs
        self._dict = base._settings.obs_type == "dict"
        facts = base._imagination.facts()
        self._told = [key for key in TOLD if key in facts]
        self._seeds: list[int | None] = [None] * slots
        image = base.world.frame_size
        entries = {key: self._fact_spec(key) for key in self._told}
        entries["pixels"] = Bounded(0, 255, (slots, *image, 3), dtype=torch.uint8, device=self.device)
        self.observation_spec = Composite(entries, shape=(slots,), device=self.device)
        self.action_spec = _bounded(envs.action_space, self.device)
        self.reward_spec = Unbounded((slots, 1), dtype=torch.float32, device=self.device)
        flags = {key: self._flag_spec() for key in ("done", "terminated", "truncated")}
        self.done_spec = Composite(flags, shape=(slots,), device=self.device)

    def _flag_spec(self) -> Any:
        return Binary(1, (*self.batch_size, 1), dtype=torch.bool, device=self.device)

    def _fact_spec(self, key: str) -> Any:
        if key in ("is_success", "judged"):
            return self._flag_spec()
        # a probability may be NaN where a detector could not tell, so that it has no bounds
        return Unbounded((*self.batch_size, 1), dtype=torch.float32, device=self.device)

    def _reset(
        self, tensordict: TensorDictBase | None = None, *, options: dict[str, Any] | None = None
    ) -> TensorDictBase:
        """Begin new episodes in all slots, or in those that the entry ``"_reset"`` picks.

        Args:
            tensordict: may hold the mask; the rest is not read.
            options: as in :meth:`WorldModelVectorEnv.reset`, e.g. ``{"start": "seed-0042"}``.
        """
        mask = None if tensordict is None else tensordict.get("_reset", None)
        given = dict(options or {})
        chosen = range(self.batch_size[0])
        if mask is not None:
            picked = mask.reshape(self.batch_size).cpu().numpy()
            given["reset_mask"], chosen = picked, picked.nonzero()[0].tolist()
        seeds: Any = list(self._seeds)  # one per slot: more than Gymnasium's base class takes
        observations, infos = self.vector_env.reset(seed=seeds, options=given)
        for slot in chosen:
            self._seeds[slot] = None
        still = torch.zeros((*self.batch_size, 1), dtype=torch.bool, device=self.device)
        flags = {key: still.clone() for key in ("done", "terminated", "truncated")}
        return self._entries(observations, infos, flags)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Imagine the next frame of every running episode."""
        outcome = self.vector_env.step(tensordict.get("action"))
        observations, rewards, terminated, truncated, infos = outcome
        ends = {"done": terminated | truncated, "terminated": terminated, "truncated": truncated}
        return self._entries(observations, infos, {**ends, "reward": rewards})

    def _entries(
        self, observations: Any, infos: dict[str, Any], others: dict[str, torch.Tensor]
    ) -> TensorDictBase:
        told = {key: torch.as_tensor(infos[key], device=self.device) for key in self._told}
        columns = {key: value.reshape(*self.batch_size, 1) for key, value in {**told, **others}.items()}
        pixels = observations["pixels"] if self._dict else observations
        return TensorDict({"pixels": pixels, **columns}, batch_size=self.batch_size, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        """Slot i begins its next episode with ``seed + i``, and goes on from there."""
        slots = range(self.batch_size[0])
        self._seeds = [None for _ in slots] if seed is None else [seed + i for i in slots]

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the vector environment."""
        self.vector_env.close()
        super().close(raise_if_closed=raise_if_closed)


def _fitting(envs: VectorEnv[Any, Any, Any]) -> WorldModelVectorEnv:
    """The innermost environment of one that fits."""
    line = (
        'gymnasium.make_vec("v2w_gym:Vid2World-DrawerClose-v0", num_envs=8, output="torch", '
        'autoreset_mode="disabled")'
    )
    base = getattr(envs, "unwrapped", None)
    if not isinstance(base, WorldModelVectorEnv):
        raise ValueError(
            f"TorchRLEnv needs a vector environment of this package, got {type(envs).__name__}; "
            f"make one with {line}"
        )
    mode, output = base.autoreset_mode, base._settings.output
    if mode is not AutoresetMode.DISABLED or output != "torch":
        raise ValueError(
            "TorchRL resets ended episodes itself and reads tensors, got autoreset_mode "
            f"{mode.name.lower()!r} and output={output!r}; make the environment with {line}"
        )
    return base


def _bounded(space: spaces.Space[Any], device: torch.device) -> Any:
    """The bounds of actions ``(b, a)``."""
    if not isinstance(space, spaces.Box):
        raise ValueError(
            f"TorchRLEnv takes actions that are a vector of numbers, this world takes {space}; "
            "wrap the vector environment so that its action_space is a Box"
        )
    low, high = (torch.as_tensor(bound, device=device) for bound in (space.low, space.high))
    return Bounded(low, high, space.shape, dtype=torch.float32, device=device)
