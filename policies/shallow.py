"""Policies without a network: a linear map of a small frame, the nearest remembered frames, a replay.

They fail in other ways than networks do, which is what a ranking must be tried on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from v2w_gym.data.episode import FrameArray
from v2w_gym.policies.base import Policy
from v2w_gym.policies.simple import Actions
from v2w_gym.policies.stored import read_policy, write_policy

SMALL = 16  # side of the frame that linear and nearest see

Floats = npt.NDArray[np.float32]


def small(frames: FrameArray) -> Floats:
    """Means of the patches of frames ``(b, h, w, 3)`` uint8, 16 by 16 of them: ``(b, 768)`` in -1..1.

    Raises:
        ValueError: a side that is no multiple of 16.
    """
    b, h, w, c = frames.shape
    if h % SMALL or w % SMALL:
        raise ValueError(f"pixels must have sides that are multiples of {SMALL}, got {h}x{w}")
    patches = frames.reshape(b, SMALL, h // SMALL, SMALL, w // SMALL, c)
    means: Floats = patches.mean(axis=(2, 4), dtype=np.float32)
    return np.asarray(means.reshape(b, -1) / 127.5 - 1.0)


class LinearPolicy:
    """Each action component is a weighted sum of the small frame's values, clipped to -1..1.

    Args:
        weight: ``(768, a)``.
        bias: ``(a,)``.
    """

    def __init__(self, weight: Floats, bias: Floats) -> None:
        self.weight, self.bias = weight, bias

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Nothing to forget."""

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)`` for ``observation["pixels"]``, uint8 ``(b, h, w, 3)``."""
        actions: Actions = small(np.asarray(observation["pixels"])) @ self.weight + self.bias
        return actions.clip(-1.0, 1.0)

    @classmethod
    def fit(cls, frames: FrameArray, actions: Floats, ridge: float) -> LinearPolicy:
        """Least squares with a penalty of ``ridge`` times the squared weights, per frame.

        Args:
            frames: ``(n, h, w, 3)`` uint8.
            actions: ``(n, a)`` in -1..1.
            ridge: above 0.
        """
        x, y = small(frames).astype(np.float64), actions.astype(np.float64)
        centre, mean = x.mean(0), y.mean(0)
        gram = (x - centre).T @ (x - centre) + ridge * len(x) * np.eye(x.shape[1])
        weight = np.linalg.solve(gram, (x - centre).T @ (y - mean))
        return cls(weight.astype(np.float32), (mean - centre @ weight).astype(np.float32))

    def tensors(self) -> dict[str, Floats]:
        """What :func:`save` writes."""
        return {"weight": self.weight, "bias": self.bias}


class NearestPolicy:
    """The mean action of the remembered frames that look most like the present one.

    Args:
        centre: ``(768,)``, mean of the remembered small frames.
        basis: ``(768, k)``, the directions in which they differ most.
        places: ``(n, k)``, where the remembered frames lie along them.
        actions: ``(n, a)``, what was done there.
        count: how many frames are asked.
    """

    def __init__(
        self, centre: Floats, basis: Floats, places: Floats, actions: Floats, count: Floats | int = 3
    ) -> None:
        self.centre, self.basis, self.places, self.actions = centre, basis, places, actions
        self.count = int(np.asarray(count).item())

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Nothing to forget."""

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)`` for ``observation["pixels"]``, uint8 ``(b, h, w, 3)``."""
        here = (small(np.asarray(observation["pixels"])) - self.centre) @ self.basis
        distance = np.square(here[:, None] - self.places).sum(-1)
        nearest = np.argpartition(distance, self.count - 1, axis=1)[:, : self.count]
        actions: Actions = self.actions[nearest].mean(axis=1, dtype=np.float32)
        return actions

    @classmethod
    def fit(cls, frames: FrameArray, actions: Floats, directions: int = 24, count: int = 3) -> NearestPolicy:
        """Remember ``frames`` ``(n, h, w, 3)`` uint8 and ``actions`` ``(n, a)``."""
        x = small(frames)
        centre = x.mean(0)
        basis = np.linalg.svd(x - centre, full_matrices=False)[2][:directions].T
        return cls(centre, basis, (x - centre) @ basis, actions, count)

    def tensors(self) -> dict[str, Floats]:
        """What :func:`save` writes."""
        remembered = {"centre": self.centre, "basis": self.basis, "places": self.places}
        return {**remembered, "actions": self.actions, "count": np.array([self.count], np.float32)}


class ReplayPolicy:
    """Does what was once done, whatever it sees; the last action again when there is no more.

    Args:
        actions: ``(t, a)`` in -1..1.
    """

    def __init__(self, actions: Floats) -> None:
        self.actions = actions
        self._done: dict[int, int] = {}

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin again in ``slots``."""
        self._done |= dict.fromkeys(slots, 0)

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """The next actions ``(b, a)``."""
        slots = range(len(observation["pixels"]))
        steps = [min(self._done.get(slot, 0), len(self.actions) - 1) for slot in slots]
        self._done |= {slot: step + 1 for slot, step in zip(slots, steps, strict=True)}
        return self.actions[steps]

    def tensors(self) -> dict[str, Floats]:
        """What :func:`save` writes."""
        return {"actions": self.actions}


KINDS: dict[str, type[LinearPolicy] | type[NearestPolicy] | type[ReplayPolicy]] = {
    "linear": LinearPolicy,
    "nearest": NearestPolicy,
    "replay": ReplayPolicy,
}


def save(
    policy: LinearPolicy | NearestPolicy | ReplayPolicy, path: str | Path, notes: Mapping[str, str]
) -> None:
    """Write a policy to one ``.safetensors`` file, float16, with ``notes`` beside it."""
    kind = next(name for name, made in KINDS.items() if isinstance(policy, made))
    tensors = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in policy.tensors().items()}
    write_policy(path, tensors, {**notes, "kind": json.dumps(kind)})


def load(path: str | Path) -> Policy:
    """Read what :func:`save` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged or foreign file.
    """
    weights, metadata = read_policy(path)
    kind = json.loads(metadata.get("kind", "null"))
    if kind not in KINDS:
        raise ValueError(f"{path} holds no policy of this kind: 'kind' is {kind!r}, known: {list(KINDS)}")
    try:
        return KINDS[kind](**{name: value.numpy() for name, value in weights.items()})
    except TypeError as error:
        raise ValueError(f"{path} is no {kind} policy: {error}") from error
