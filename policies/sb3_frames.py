"""How a model of Stable-Baselines3 wants its images: channel order, number of stacked frames, size."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from einops import rearrange

Images = npt.NDArray[Any]


@dataclass(frozen=True)
class Layout:
    """Of one image entry.

    Attributes:
        height: in pixels.
        width: in pixels.
        frames: how many are stacked along the channels, the oldest first.
        first: whether channels come first, ``(3 frames, h, w)``, as after ``VecTransposeImage``.
    """

    height: int
    width: int
    frames: int
    first: bool

    @classmethod
    def of(cls, shape: Sequence[int]) -> Layout:
        """The layout that a space of ``shape`` asks for: channels are the smallest side, as in the library.

        Raises:
            ValueError: the channels are no whole number of RGB frames.
        """
        first = int(np.argmin(shape)) == 0
        channels, height, width = shape if first else (shape[2], shape[0], shape[1])
        if channels % 3:
            raise ValueError(
                f"the model reads images of shape {tuple(shape)}, {channels} channels are no RGB frames; "
                "wrap it: v2w_gym.policies.from_callable(lambda observation: ..., batched=True)"
            )
        return cls(height, width, channels // 3, first)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what the model reads."""
        channels = 3 * self.frames
        return (channels, self.height, self.width) if self.first else (self.height, self.width, channels)

    def check(self, shape: Sequence[int], key: str) -> None:
        """Raise ``ValueError`` unless ``shape`` is ``(b, h, w, 3)`` of this size."""
        if tuple(shape[1:]) != (self.height, self.width, 3):
            raise ValueError(
                f"the model was trained on images of {self.height}x{self.width} pixels, {key!r} has shape "
                f"{tuple(shape[1:])}; resize: v2w_gym.policies.from_callable(lambda observation: ...)"
            )

    def single(self, images: Images) -> Images:
        """``(b, h, w, 3)`` in the model's channel order."""
        return rearrange(images, "b h w c -> b c h w") if self.first else images

    def stacked(self, images: Images) -> Images:
        """``(b, f, ...)`` frames in the model's channel order, along its channels."""
        return rearrange(images, "b f c h w -> b (f c) h w" if self.first else "b f h w c -> b h w (f c)")


class Stack:
    """The last frames of every slot, zeros before the first; row i is slot i.

    Args:
        length: how many.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._seen: dict[int, deque[Images]] = {}

    def reset(self, slots: Sequence[int]) -> None:
        """Forget what ``slots`` have seen."""
        for slot in slots:
            self._seen.pop(slot, None)

    def see(self, images: Images) -> Images:
        """Take in images ``(b, ...)``; the last ones of each slot, ``(b, f, ...)``, the newest last."""
        for slot, image in enumerate(images):
            blank = deque([np.zeros_like(image)] * self._length, maxlen=self._length)
            self._seen.setdefault(slot, blank).append(image.copy())
        return np.stack([np.stack(self._seen[slot]) for slot in range(len(images))])


def check_spaces(layout: Layout, actions: Any, observation_space: Any, action_space: Any) -> None:
    """Compare what a model was trained for with the spaces of a single environment.

    Args:
        layout: of the model's images.
        actions: the model's action space, a box.
        observation_space: a box of images, or a dict with one called ``pixels``.
        action_space: of the environment.

    Raises:
        ValueError: what differs, and how it can be mended.
    """
    pixels = getattr(observation_space, "spaces", {}).get("pixels", observation_space)
    layout.check((1, *pixels.shape), "pixels")
    if getattr(action_space, "shape", None) != actions.shape:
        raise ValueError(f"the model gives actions of {actions}, the world takes {action_space}")
    if not (np.allclose(actions.low, action_space.low) and np.allclose(actions.high, action_space.high)):
        raise ValueError(
            f"the model's actions lie in {actions.low.tolist()}..{actions.high.tolist()}, the world's in "
            f"{action_space.low.tolist()}..{action_space.high.tolist()}; train it on the world's range "
            "(gymnasium.wrappers.RescaleAction), or map its actions in v2w_gym.policies.from_callable"
        )
