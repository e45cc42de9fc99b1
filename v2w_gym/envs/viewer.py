"""A window for ``render_mode="human"``, drawn with pygame."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from v2w_gym.data.episode import FrameArray

# "human" is only announced where it can work, so that Gymnasium's checkers pass without the optional pygame.
RENDER_MODES = ["rgb_array", *(["human"] if importlib.util.find_spec("pygame") else [])]
_WINDOW = 512


class Viewer:
    """Shows frames side by side at the world's speed.

    Args:
        title: of the window.
        fps: at most so many frames per second are shown.

    Raises:
        gymnasium.error.DependencyNotInstalled: pygame is missing.
    """

    def __init__(self, title: str, fps: float) -> None:
        try:
            import pygame
        except ImportError as error:
            raise gymnasium.error.DependencyNotInstalled(
                'render_mode="human" opens a window with pygame: pip install pygame; '
                'without a screen use render_mode="rgb_array"'
            ) from error
        self._pygame = pygame
        self._title = title
        self._fps = fps
        self._clock = pygame.time.Clock()
        self._screen: Any = None

    def show(self, frames: Sequence[FrameArray] | FrameArray) -> None:
        """Draw frames ``(n, h, w, 3)`` uint8 as a grid, enlarged to about 512 pixels without smoothing."""
        image = _grid(np.asarray(frames))
        scale = max(1, _WINDOW // max(image.shape[:2]))
        size = (image.shape[1] * scale, image.shape[0] * scale)
        if self._screen is None:
            self._screen = self._open(size)
        surface = self._pygame.surfarray.make_surface(image.swapaxes(0, 1))  # pygame has x first
        self._screen.blit(self._pygame.transform.scale(surface, size), (0, 0))
        self._pygame.event.pump()
        self._pygame.display.flip()
        self._clock.tick(self._fps)

    def _open(self, size: tuple[int, int]) -> Any:
        try:
            self._pygame.display.init()
            self._pygame.display.set_caption(self._title)
            return self._pygame.display.set_mode(size)
        except self._pygame.error as error:
            raise gymnasium.error.Error(
                f'render_mode="human" found no screen ({error}); use render_mode="rgb_array", '
                "or set SDL_VIDEODRIVER=dummy to draw nowhere"
            ) from error

    def close(self) -> None:
        """Close the window; calling it twice is harmless."""
        if self._screen is not None:
            self._screen = None
            self._pygame.display.quit()


def open_viewer(render_mode: str | None, title: str, fps: float) -> Viewer | None:
    """A viewer where the render mode asks for one.

    Raises:
        ValueError: unknown render mode.
        gymnasium.error.DependencyNotInstalled: pygame is missing.
    """
    if render_mode not in (None, "rgb_array", "human"):
        raise ValueError(f'render_mode must be None, "rgb_array" or "human", got {render_mode!r}')
    return Viewer(title, fps) if render_mode == "human" else None


def _grid(frames: FrameArray) -> FrameArray:
    count, h, w, c = frames.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = np.zeros((rows * columns, h, w, c), np.uint8)
    cells[:count] = frames
    return cells.reshape(rows, columns, h, w, c).swapaxes(1, 2).reshape(rows * h, columns * w, c)
