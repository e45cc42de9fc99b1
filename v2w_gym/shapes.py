"""The axis alphabet of the whole package; every docstring and einops string uses these letters.

========  ==============================================================
``b``     batch slot
``f``     frame
``c``     channel
``h w``   space
``a``     action
``l``     token
========  ==============================================================

Batch first everywhere. Frames are uint8 ``h w 3`` (RGB, 0..255) at every public border and float ``3 h w`` in
-1..1 only inside the codec. Latents are float ``c h w``, already scaled. A noise level always has the axes
``b f``. The action at index i moves frame i to frame i+1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

FramesLike = npt.NDArray[np.uint8] | torch.Tensor


def frames_to_tensor(frames: FramesLike, frame_size: tuple[int, int], what: str = "frames") -> torch.Tensor:
    """Check uint8 frames and return them as a tensor with the same axes, ``(..., h, w, 3)``.

    Raises:
        ValueError: wrong dtype, wrong size or no channel axis; the message says what was expected.
    """
    tensor = _rgb(frames, what)
    expected = (*frame_size, 3)
    if tuple(tensor.shape[-3:]) != expected:
        raise ValueError(
            f"{what} must end in (h, w, 3) = {expected}, got {tuple(tensor.shape)}; "
            f"resize with cv2.resize(frame, {expected[1::-1]}, interpolation=cv2.INTER_AREA)"
        )
    return tensor


def frames_to_array(frames: FramesLike, what: str = "frames") -> npt.NDArray[np.uint8]:
    """Check uint8 frames of any size and return them as an array with the same axes, ``(..., h, w, 3)``.

    Raises:
        ValueError: wrong dtype or no channel axis; the message says what was expected.
    """
    tensor = _rgb(frames, what)
    if tensor.ndim < 3 or tensor.shape[-1] != 3 or not tensor.numel():
        raise ValueError(f"{what} must end in (h, w, 3), got {tuple(tensor.shape)}; RGB comes last")
    return tensor.cpu().numpy()


def _rgb(frames: FramesLike, what: str) -> torch.Tensor:
    try:
        tensor = torch.as_tensor(frames if isinstance(frames, torch.Tensor) else np.ascontiguousarray(frames))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} must be a uint8 array, got {type(frames).__name__}: {error}") from error
    if tensor.dtype != torch.uint8:
        raise ValueError(
            f"{what} must be uint8 RGB in 0..255, got {tensor.dtype}; convert with (x * 255).astype('uint8')"
        )
    return tensor


def check_action(
    action: Any, shape: tuple[int, ...], low: float = -1.0, high: float = 1.0
) -> npt.NDArray[np.float32]:
    """Check one action (or a batch of them) and return it as float32.

    Args:
        action: array or tensor.
        shape: the shape it must have, ``(a,)`` or ``(b, a)``.
        low: smallest allowed value.
        high: largest allowed value.

    Raises:
        ValueError: wrong shape, not a number, infinite, or out of range.
    """
    if isinstance(action, torch.Tensor):
        action = action.detach().cpu().numpy()
    try:
        array = np.asarray(action, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"action must be numbers of shape {shape}, got {type(action).__name__}: {error}"
        ) from error
    check_shape(array, shape)
    if len(bad := np.argwhere(~np.isfinite(array))):
        place = tuple(bad[0].tolist())
        raise ValueError(f"action must be finite, got {array[place]} at {place} of shape {array.shape}")
    if array.min(initial=0.0) < low - 1e-6 or array.max(initial=0.0) > high + 1e-6:
        raise ValueError(
            f"action must lie in [{low:g}, {high:g}], got values from {array.min():g} to {array.max():g}; "
            f"clip it first: np.clip(action, {low:g}, {high:g})"
        )
    return array


def check_shape(action: Any, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless the array or tensor ``action`` has ``shape``."""
    if tuple(action.shape) != shape:
        raise ValueError(f"action must have shape {shape}, got {tuple(action.shape)}")


class Checked(torch.Tensor):
    """Actions that whoever hands them on answers for: ``action_tensor`` looks at their shape alone.

    Looking at values on an accelerator waits for it; an environment looks at them together with its results.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # results are plain


def vouched(actions: Any) -> Any:
    """A tensor as ``Checked``; anything else as it is."""
    return actions.as_subclass(Checked) if isinstance(actions, torch.Tensor) else actions


def action_tensor(
    action: Any, shape: tuple[int, ...], low: float, high: float, device: torch.device
) -> torch.Tensor:
    """``check_action``, as a tensor on ``device``; a tensor that lies there makes no trip to the host.

    Raises:
        ValueError: as ``check_action``.
    """
    if isinstance(action, torch.Tensor) and tuple(action.shape) == shape:
        values = action.detach().to(device, torch.float32)
        if isinstance(action, Checked) or within(values, low - 1e-6, high + 1e-6):
            return values
    return torch.from_numpy(check_action(action, shape, low, high)).to(device)


def within(values: torch.Tensor, low: Any, high: Any) -> torch.Tensor:
    """Whether all values are finite and in ``low..high``; a bool tensor that nobody has read yet."""
    inside: torch.Tensor = values.isfinite() & (values >= low) & (values <= high)
    return inside.all()
