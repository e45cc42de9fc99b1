"""A world of a policy's own: what would come of sequences of actions, if one may believe the imagination."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from v2w_gym.data.episode import ActionArray, FrameArray
from v2w_gym.policies.contract import world_contract
from v2w_gym.registration import GENERIC_ID

_ENDLESS = 2**31  # a plan may look past the end of the episode
_KINDS = ("normalised", "raw")
_PAST = 0  # seed of the noise that some worlds mix into what was seen: it must repeat

Snapshots = Callable[[Sequence[int]], Any]


class Foresight:
    """Imagines what follows on what a policy has seen, by the public interface of the environments.

    Args:
        world: registered id, folder or hub id.
        device: where it is imagined.
        sampler: preset or values, as an environment takes them.
        penalty: how much a score loses by a step that is not credible at all.

    Attributes:
        low: ``(a,)``, smallest action.
        high: ``(a,)``, largest action.
        window: how many past frames the world looks at.
        contract: of its actions.

    Raises:
        FileNotFoundError: no such world.
        ValueError: a world whose actions are no box of numbers that its model reads as they are.
    """

    def __init__(
        self,
        world: str,
        *,
        device: str = "cpu",
        sampler: str | Mapping[str, Any] | None = None,
        penalty: float = 0.0,
    ) -> None:
        self._settings: dict[str, Any] = {
            "world": world,
            "device": device,
            "sampler": sampler,
            "credibility": penalty > 0.0,
            "terminate_on_success": False,  # to stay at the goal is worth more than to pass it
            "horizon": _ENDLESS,
        }
        self._penalty = penalty
        self._made: dict[int, Any] = {}
        envs = self._envs(1)
        if envs.world.action.kind not in _KINDS:
            raise ValueError(
                f"plans are made of actions of kind {' or '.join(map(repr, _KINDS))}, "
                f"those of world {envs.world.name!r} are {envs.world.action.kind!r}"
            )
        self.low, self.high = envs.single_action_space.low, envs.single_action_space.high
        self.window = int(envs.world.window)
        self.contract = world_contract(envs.world)

    def _envs(self, slots: int) -> Any:
        """A vector environment of so many slots; weights are shared among all of the process."""
        if slots not in self._made:
            made = gymnasium.make_vec(
                f"v2w_gym:{GENERIC_ID}", num_envs=slots, autoreset_mode="disabled", **self._settings
            )
            self._made[slots] = made.unwrapped
        return self._made[slots]

    def begin(
        self, frames: Sequence[FrameArray], actions: Sequence[ActionArray], tasks: Sequence[str | None]
    ) -> Any:
        """Episodes that begin with what was seen, as a snapshot with a row for each.

        Args:
            frames: of each, ``(f, h, w, 3)`` uint8, as many as it has.
            actions: of each, ``(f-1, a)``; action i moved frame i to frame i+1.
            tasks: instruction of each; None takes the world's.

        Raises:
            ValueError: frames, actions or an instruction that the world does not take.
        """
        envs = self._envs(len(frames))
        options = {"frames": list(frames), "actions": list(actions), "task": list(tasks)}
        envs.reset(options={**options, "noise_seed": [_PAST] * len(frames)})
        return envs.snapshot()

    def score(
        self, snapshot: Any, sequences: npt.NDArray[Any], noise_seeds: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        """Mean probability of success over the steps of each sequence, less what is not credible.

        Args:
            snapshot: ``b`` episodes.
            sequences: ``(b, n, k, a)``, n of them to go on with from each.
            noise_seeds: one for each episode: all of its sequences meet the same noise.

        Returns:
            ``(b, n)``; a step that the detector cannot judge counts as no success.

        Raises:
            ValueError: a penalty in a world that cannot tell what is credible.
        """
        b, n, k, a = sequences.shape
        rows = np.repeat(np.arange(b), n)
        envs = self._envs(b * n)
        envs.restore(snapshot[rows.tolist()].with_noise(np.repeat(noise_seeds, n).tolist()))
        steps = envs.step_chunk(sequences.reshape(b * n, k, a).astype(np.float32))[4]["chunk"]
        worth = np.nan_to_num(np.asarray(steps["success_prob"], np.float64), nan=0.0)
        if self._penalty:
            if "credibility" not in steps:
                raise ValueError(
                    f"world {envs.world.name!r} cannot tell what is credible, so a penalty has no meaning; "
                    "say penalty=0"
                )
            worth -= self._penalty * (1.0 - np.nan_to_num(np.asarray(steps["credibility"], np.float64)))
        return np.asarray(worth.mean(axis=1).reshape(b, n))
