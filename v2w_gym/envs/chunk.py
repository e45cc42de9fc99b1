"""Several actions at once: the same steps one after the other, each with its frame, reward and end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from v2w_gym.arrays import Array, Arrays
from v2w_gym.envs.actions import Actions, Encoded, encoded
from v2w_gym.envs.imagination import Imagination


def encode_chunk(actions: Actions, chunk: Any, lead: tuple[int, ...], arrays: Arrays) -> Array:
    """Check all actions of a chunk and return what the model reads, ``(*lead, k, a)``.

    Args:
        actions: the kind of action.
        chunk: of it, every array with the axes ``(*lead, k)`` in front.
        lead: axes before that of steps.
        arrays: what results are made of.

    Raises:
        ValueError: a bad action anywhere in it.
    """
    given: Any = next(iter(chunk.values()), ()) if isinstance(chunk, Mapping) else chunk
    shape = tuple(given.shape if hasattr(given, "shape") else np.shape(given))
    if len(shape) <= len(lead) or not shape[len(lead)]:
        axes = "slots, steps" if lead else "steps"
        raise ValueError(f"a chunk of actions has the leading axes ({axes}), got shape {shape}")
    return encoded(actions, chunk, (*lead, shape[len(lead)]), arrays).checked(arrays).vectors


def play(imagination: Imagination, slots: Sequence[int], vectors: Array) -> tuple[Array, dict[str, Any]]:
    """Step ``slots``; one whose episode ends stands still for the rest and costs nothing more.

    Args:
        imagination: the episodes.
        slots: running ones.
        vectors: ``(b, k, a)`` for all slots, checked.

    Returns:
        Rewards ``(b, k)``, and what happened in each step: ``pixels`` ``(b, k, h, w, 3)`` uint8,
        ``terminated``, ``truncated``, ``success_prob`` and, where the world can tell, ``credibility``
        ``(b, k)``, and ``executed`` ``(b,)`` int64, how many of its actions a slot took.
    """
    arrays, executed, rewards = imagination.arrays, np.zeros(len(imagination.started), np.int64), []
    steps: dict[str, list[Array]] = defaultdict(list)
    for k in range(vectors.shape[1]):
        live = [i for i in slots if not imagination.ended[i]]
        if live:
            imagination.step(live, Encoded(vectors[imagination.rows(live), k]))
        executed[live] += 1
        rewards.append(imagination.rewards(live))
        steps["pixels"].append(arrays.copy(imagination.frames))
        steps["terminated"].append(arrays.take(imagination.terminated.copy()))
        steps["truncated"].append(arrays.take(imagination.truncated.copy()))
        steps["success_prob"].append(imagination.probabilities())
        if imagination.credibility is not None:
            steps["credibility"].append(arrays.copy(imagination.credibility))
    stacked = {key: arrays.stack(values) for key, values in steps.items()}
    return arrays.stack(rewards), {**stacked, "executed": executed}
