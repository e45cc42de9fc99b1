"""Snapshots as bytes, and a stranger's bytes as a snapshot: nothing enters a batch that does not fit it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2w_gym.envs.snapshot import Snapshot

_MOST = 2**31  # of counters and seeds
_LONGEST = 1000  # letters of a task or of a start's id


def to_bytes(snapshot: Snapshot) -> bytes:
    """The bytes of the file that ``Snapshot.save`` writes.

    Raises:
        TypeError: the state of a world model that is not ours.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "snapshot.safetensors")
        snapshot.save(path)
        return path.read_bytes()


def from_bytes(data: Any, like: Any, frame_size: tuple[int, int]) -> Snapshot:
    """The one episode that ``to_bytes`` wrote.

    Args:
        data: bytes from a client.
        like: a state of the model, for the names, shapes and dtypes of its tensors.
        frame_size: ``(h, w)``.

    Raises:
        ValueError: something else, of another shape, or with values that no episode has.
    """
    if not isinstance(data, bytes):
        raise ValueError(f"a snapshot must be bytes, got {type(data).__name__}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "snapshot")
            path.write_bytes(data)
            snapshot = Snapshot.load(path)
        _check_texts(snapshot)
        _check_state(snapshot.state, like)
        _check_episode(snapshot, frame_size)
    except Exception as error:  # a stranger's bytes may be wrong in any way
        raise ValueError(
            f"these bytes are damaged, or no snapshot of one episode of this world ({error}); "
            "env.unwrapped.snapshot() gives some"
        ) from error
    return snapshot


def size_of(state: Any) -> int:
    """Bytes of the tensors of a state; 0 of one that is not ours and cannot be saved."""
    leaves = _leaves(state).values() if hasattr(state, "to_tensordict") else ()
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves)


def _check_texts(snapshot: Snapshot) -> None:
    for name in ("tasks", "starts"):
        texts = getattr(snapshot, name)
        if len(texts) != 1 or not isinstance(texts[0], str) or len(texts[0]) > _LONGEST:
            raise ValueError(f"{name} must be one text")
    if not isinstance(snapshot.model_hash, str):
        raise ValueError("model_hash must be a text")


def _leaves(state: Any) -> dict[Any, torch.Tensor]:
    return dict(state.to_tensordict().items(True, True))


def _check_state(state: Any, like: Any) -> None:
    found, wanted = _leaves(state), _leaves(like)
    if set(found) != set(wanted):
        raise ValueError(f"its state has other tensors than this model's: {set(found) ^ set(wanted)}")
    for name, tensor in found.items():
        model = wanted[name]
        if tensor.dtype != model.dtype or tensor.shape != (1, *model.shape[1:]):
            raise ValueError(
                f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not {model.dtype} {model.shape}"
            )
        if tensor.is_floating_point():
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"{name} has values that are no finite numbers")
        elif tensor.numel() and not -1 <= int(tensor.min()) <= int(tensor.max()) < _MOST:
            raise ValueError(f"{name} has values outside -1..2**31-1")
    if min(int(state.frame_index), int(state.seed)) < 0:
        raise ValueError("frame_index and seed must not be negative")


def _check_episode(snapshot: Snapshot, frame_size: tuple[int, int]) -> None:
    held = snapshot.episodes.known()
    kinds = {
        "frames": ((1, *frame_size, 3), "u1"),
        "elapsed": ((1,), "i8"),
        "context_length": ((1,), "i8"),
        "terminated": ((1,), "b1"),
        "truncated": ((1,), "b1"),
        "success_prob": ((1,), "f8 f4"),  # the latter of an environment whose results are tensors
        "credibility": ((1,), "f4"),
    }
    for name, values in held.items():
        shape, dtype = kinds[name]
        if values.shape != shape or values.dtype not in map(np.dtype, dtype.split()):
            raise ValueError(f"{name} is {values.dtype} {values.shape}, not {dtype} {shape}")
    if not (0 <= held["elapsed"][0] < _MOST and 1 <= held["context_length"][0] < _MOST):
        raise ValueError("elapsed and context_length must count frames")
    for name in held.keys() & {"success_prob", "credibility"}:
        if not (0 <= held[name][0] <= 1 or np.isnan(held[name][0])):
            raise ValueError(f"{name} must lie in 0..1")
    for frames in getattr(snapshot, "seen", None) or ():
        if frames is not None and (frames.shape[1:] != (*frame_size, 3) or frames.dtype != np.uint8):
            raise ValueError(f"seen frames are {frames.dtype} {frames.shape}")
