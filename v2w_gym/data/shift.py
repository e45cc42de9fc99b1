"""Reality as no recording showed it: the same task with one thing changed, to ask who notices.

A world model knows the scene of its data and nothing else. Each shift changes one thing that a robot's owner
may change without a thought, drawn anew for every episode from its seed; ``v2w record --shift NAME`` records
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

MOVED, TURNED = 0.03, 5.0
"""How far the camera moves, in metres, and turns, in degrees."""


@dataclass(frozen=True)
class Scene:
    """What a shift may reach into.

    Attributes:
        env: the Meta-World environment.
        camera: the free camera that draws the frames.
    """

    env: Any
    camera: Any


class Shift(Protocol):
    """A change of the scene; it remembers how everything was, so that draws do not add up."""

    def draw(self, rng: np.random.Generator) -> None:
        """Change the scene for an episode that is about to be reset."""
        ...


class CameraMoved:
    """The camera stands 3 cm off, in any direction, and looks the same way."""

    def __init__(self, scene: Scene) -> None:
        self._camera, self._lookat = scene.camera, scene.camera.lookat.copy()

    def draw(self, rng: np.random.Generator) -> None:
        """See ``Shift``."""
        self._camera.lookat[:] = self._lookat + MOVED * _direction(rng)


class CameraTurned:
    """The camera stands where it stood and looks 5 degrees to the left, to the right, up or down."""

    def __init__(self, scene: Scene) -> None:
        camera = scene.camera
        self._camera, self._angles = camera, (float(camera.azimuth), float(camera.elevation))
        self._place = camera.lookat - camera.distance * _ahead(*self._angles)

    def draw(self, rng: np.random.Generator) -> None:
        """See ``Shift``."""
        turn = np.zeros(2)
        turn[rng.integers(2)] = rng.choice([-TURNED, TURNED])
        azimuth, elevation = self._angles + turn
        self._camera.azimuth, self._camera.elevation = azimuth, elevation
        self._camera.lookat[:] = self._place + self._camera.distance * _ahead(azimuth, elevation)


class OtherLight:
    """All lamps are weaker or stronger, by a quarter to a half, and a little warmer or colder."""

    def __init__(self, scene: Scene) -> None:
        model = scene.env.model
        self._lamps = [model.light_diffuse, model.vis.headlight.ambient, model.vis.headlight.diffuse]
        self._before = [lamp.copy() for lamp in self._lamps]

    def draw(self, rng: np.random.Generator) -> None:
        """See ``Shift``."""
        strength = 1.0 + rng.choice([-1.0, 1.0]) * rng.uniform(0.25, 0.5)
        tint = 1.0 + rng.uniform(-0.1, 0.1) * np.array([1.0, 0.0, -1.0])
        for lamp, before in zip(self._lamps, self._before, strict=True):
            lamp[:] = before * strength * tint


class OtherColour:
    """The drawer is red, blue, yellow, violet, white or dark instead of green."""

    COLOURS = (
        (0.7, 0.3, 0.3),
        (0.3, 0.4, 0.7),
        (0.7, 0.65, 0.3),
        (0.55, 0.35, 0.6),
        (0.8, 0.8, 0.8),
        (0.2,) * 3,
    )

    def __init__(self, scene: Scene) -> None:
        model = scene.env.model
        self._colour = model.mat_rgba[model.material("drawer_beige").id, :3]

    def draw(self, rng: np.random.Generator) -> None:
        """See ``Shift``."""
        self._colour[:] = self.COLOURS[rng.integers(len(self.COLOURS))]


class Obstacle:
    """A block stands on the table between hand and drawer, firmly."""

    BODY = "obstacle"

    @staticmethod
    def build(spec: Any) -> None:
        """Put the block into the description of the scene."""
        import mujoco

        body = spec.worldbody.add_body(name=Obstacle.BODY)
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.03, 0.03, 0.03], conaffinity=1, contype=1)

    def __init__(self, scene: Scene) -> None:
        model = scene.env.model
        self._body = model.body(self.BODY)
        self._geom = int(self._body.geomadr[0])
        self._model = model

    def draw(self, rng: np.random.Generator) -> None:
        """See ``Shift``."""
        half = rng.uniform(0.02, 0.04, 3)
        self._model.geom_size[self._geom] = half
        self._model.geom_rbound[self._geom] = np.linalg.norm(half)
        self._model.geom_rgba[self._geom, :3] = rng.uniform(0.1, 0.9, 3)
        self._body.pos[:] = rng.uniform(-0.12, 0.12), rng.uniform(0.55, 0.65), half[2]


class DrawerBeyond:
    """The drawer stands 13 to 20 cm to the side; the data have it within 10 cm of the middle."""

    def __init__(self, scene: Scene) -> None:
        self._env, self._space = scene.env, scene.env._random_reset_space

    def draw(self, rng: np.random.Generator) -> None:
        """See ``Shift``."""
        low, high = self._space.low.copy(), self._space.high.copy()
        low[0], high[0] = ((-0.2, -0.13), (0.13, 0.2))[rng.integers(2)]
        self._env._random_reset_space = type(self._space)(low, high, dtype=np.float64)


SHIFTS: Mapping[str, Callable[[Scene], Shift]] = {
    "camera-moved": CameraMoved,
    "camera-turned": CameraTurned,
    "light": OtherLight,
    "colour": OtherColour,
    "obstacle": Obstacle,
    "beyond": DrawerBeyond,
}


def _direction(rng: np.random.Generator) -> Vector:
    drawn = rng.normal(size=3)
    return np.asarray(drawn / np.linalg.norm(drawn), dtype=np.float64)


def _ahead(azimuth: float, elevation: float) -> Vector:
    """Where a free camera of these angles, in degrees, looks."""
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
