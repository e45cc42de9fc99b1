"""The ``options`` of ``reset``: checked and turned into what each slot asks for, before anything changes."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from v2w_gym.arrays import host
from v2w_gym.data.framing import fit
from v2w_gym.data.starts import Context
from v2w_gym.envs.settings import Parts
from v2w_gym.envs.world import no_starts

KEYS = ("start", "frames", "actions", "task", "noise_seed")
IGNORED = ("lerobot_new_rollout",)
"""LeRobot's evaluator says by it that this reset begins a rollout; every reset of ours begins an episode."""

NOISE_SEEDS = 2**31
"""Noise seeds lie in ``range(NOISE_SEEDS)``."""


@dataclass(frozen=True)
class Request:
    """What one slot's reset asks for; None means: as the world and the random generator have it.

    Attributes:
        context: what the episode starts from.
        task: the instruction.
        noise_seed: seeds the episode's noise; the same number for two policies lets them meet the same noise.
    """

    context: Context | None = None
    task: str | None = None
    noise_seed: int | None = None


def check_keys(options: Mapping[str, Any] | None) -> None:
    """Raise ``ValueError`` at an option that no reset knows: a misspelt one must not pass in silence."""
    for key in options or {}:
        if key not in KEYS and key not in IGNORED:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KEYS)}"
            raise ValueError(f"unknown reset option {key!r}; {hint}")


def parse(options: Mapping[str, Any] | None, parts: Parts) -> Request:
    """Check the options of one slot.

    ``frames`` go through the world's framing; ``actions`` are vectors as the model reads them.

    Raises:
        ValueError: an unknown key, start or task, or frames, actions or a noise seed that do not fit.
    """
    check_keys(options)
    options = {k: v for k, v in (options or {}).items() if v is not None}
    return Request(_context(options, parts), _task(options, parts), _noise_seed(options))


def _context(options: Mapping[str, Any], parts: Parts) -> Context | None:
    if "start" in options:
        if "frames" in options or "actions" in options:
            raise ValueError("reset options hold a start and frames or actions; give one or the other")
        if parts.starts is None:
            raise ValueError(no_starts(parts.config.name))
        return parts.starts.by_id(options["start"])
    if "frames" not in options:
        if "actions" in options:
            raise ValueError('reset option "actions" needs the "frames" (f, h, w, 3) that it lies between')
        if parts.starts is None:
            raise ValueError(no_starts(parts.config.name))
        return None
    config = parts.config
    frames = fit(options["frames"], config.frame_size, config.framing, 'reset option "frames"')
    shape = (len(frames) - 1, len(config.action.names))
    if "actions" not in options and len(frames) > 1:
        raise ValueError(f'reset option "frames" with f = {len(frames)} needs "actions" of shape {shape}')
    actions = parts.actions.recorded(options.get("actions", np.zeros(shape, np.float32)), shape)
    return Context("custom", frames, actions)


def _task(options: Mapping[str, Any], parts: Parts) -> str | None:
    task, known = options.get("task"), parts.config.instructions
    if task is not None and task not in known:
        near = difflib.get_close_matches(str(task), known, n=1) or known[:1]
        raise ValueError(
            f"world {parts.config.name!r} does not know the task {task!r}; did you mean {near[0]!r}? "
            f"It knows {len(known)}: World.open(...).config.instructions"
        )
    return task


def _noise_seed(options: Mapping[str, Any]) -> int | None:
    seed = options.get("noise_seed")
    if seed is None:
        return None
    if type(seed) is bool or not isinstance(seed, int | np.integer) or not 0 <= seed < NOISE_SEEDS:
        raise ValueError(f'reset option "noise_seed" must be an integer in 0..2**31-1, got {seed!r}')
    return int(seed)


def split(options: Mapping[str, Any] | None, slots: int) -> list[dict[str, Any]]:
    """Options of a vector environment as one mapping per slot.

    A text or a number holds for every slot; anything else has a leading slot axis of length ``slots``.
    None in a list leaves that slot to the world.

    Raises:
        ValueError: an unknown key, or a value whose leading axis has another length.
    """
    check_keys(options)
    rows: list[dict[str, Any]] = [{} for _ in range(slots)]
    for key, value in (options or {}).items():
        shared = value is None or isinstance(value, str | numbers.Number)
        if not shared and _length(value) != slots:
            raise ValueError(
                f"reset option {key!r} needs a leading slot axis of length {slots}, "
                f"got {type(value).__name__} of length {_length(value)}; None leaves a slot to the world"
            )
        for slot, row in enumerate(rows):
            row[key] = value if shared else value[slot]
    return rows


def masked(mask: Any, slots: int) -> list[int]:
    """Slots that ``mask``, an array or a tensor, picks; all without a mask."""
    if mask is None:
        return list(range(slots))
    mask = host(mask) if hasattr(mask, "detach") else mask
    fits = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (slots,)
    if not fits or not mask.any():
        raise ValueError(
            f'reset option "reset_mask" must be a numpy bool array of shape ({slots},) with a True in it, '
            f"got {mask!r}"
        )
    return [int(i) for i in np.flatnonzero(mask)]


def _length(value: Any) -> int | None:
    try:
        return len(value)
    except TypeError:
        return None
