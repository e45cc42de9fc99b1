"""Meta-World as reality: the third-party robot simulation that the embedded world imitates.

Every number that fixes the embedded world (camera, action repeat, horizon) stands here and nowhere else, so
that models, policies and tables made by others fit. Needs ``pip install "v2w_gym[metaworld]"`` and an
offscreen OpenGL (Debian: ``apt-get install libosmesa6``). One renderer per process: a second one draws
garbage.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from v2w_gym.data.episode import FrameArray
from v2w_gym.data.shift import SHIFTS, Scene

os.environ.setdefault("MUJOCO_GL", "osmesa")

ACTION_REPEAT = 4
HORIZON = 32
FRAME_SIZE = 64
_RENDER_SIZE = 128
_CAMERA = {"lookat": (0.0, 0.66, 0.13), "distance": 0.95, "azimuth": 145.0, "elevation": -28.0}


class MetaWorldTask:
    """One Meta-World task seen by the embedded world's camera.

    Args:
        task: a Meta-World v3 task name, e.g. ``"drawer-close-v3"``.
        shift: one of ``shift.SHIFTS``: something about the scene is not as the data have it. None changes
            nothing.

    Attributes:
        state: ``(39,)`` float64, the simulator's own observation; experts read it, image policies must not.
    """

    def __init__(self, task: str = "drawer-close-v3", shift: str | None = None) -> None:
        try:
            import metaworld
            import mujoco
        except ImportError as error:
            raise ImportError('reality needs Meta-World: pip install "v2w_gym[metaworld]"') from error
        classes = metaworld.env_dict.ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
        name = f"{task}-goal-observable"
        if name not in classes:
            raise ValueError(f"unknown Meta-World task {task!r}; known: {sorted(classes)}")
        if shift is not None and shift not in SHIFTS:
            raise ValueError(f"unknown shift {shift!r}; known: {', '.join(SHIFTS)}")
        self.task = task
        self._mujoco = mujoco
        self._env = _made(classes[name], getattr(SHIFTS.get(shift or ""), "build", None))
        self._env._freeze_rand_vec = False
        self._env.seeded_rand_vec = True
        model = self._env.model
        model.vis.quality.offsamples = 0
        self._renderer = mujoco.Renderer(model, _RENDER_SIZE, _RENDER_SIZE)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._camera.lookat[:] = _CAMERA["lookat"]
        self._camera.distance = _CAMERA["distance"]
        self._camera.azimuth = _CAMERA["azimuth"]
        self._camera.elevation = _CAMERA["elevation"]
        self._shift = None if shift is None else SHIFTS[shift](Scene(self._env, self._camera))
        self.state: npt.NDArray[np.float64] = np.zeros(39)

    def reset(self, seed: int, settle: bool = True) -> FrameArray:
        """Place the scene as ``seed`` says and return the first frame, ``(64, 64, 3)`` uint8.

        Args:
            seed: places the drawer, and draws what is shifted.
            settle: Meta-World draws two places at a reset, puts the drawer into the second, and leaves its
                green goal marker at the first until the first step. True moves it before the frame is drawn,
                False draws what Meta-World draws. The frame is a function of the seed either way.
        """
        if self._shift is not None:
            self._shift.draw(np.random.default_rng((seed, 17)))
        self._env.seed(seed)
        self.state, _ = self._env.reset()
        self._env.curr_path_length = 0
        if settle:
            self._mujoco.mj_forward(self._env.model, self._env.data)
        return self.render()

    def step(self, action: npt.ArrayLike) -> tuple[FrameArray, bool]:
        """Hold ``action`` ``(4,)`` in -1..1 for four simulator steps.

        Returns:
            The next frame and the simulator's success flag after the last of the four steps.
        """
        flag = self.advance(action)
        return self.render(), flag

    def advance(self, action: npt.ArrayLike) -> bool:
        """As ``step``, without a frame, which costs most of its time: the success flag alone."""
        clipped = np.clip(np.asarray(action, dtype=np.float32), -1.0, 1.0)
        info: dict[str, Any] = {}
        for _ in range(ACTION_REPEAT):
            self._env.curr_path_length = 0
            self.state, _, _, _, info = self._env.step(clipped)
        return bool(info["success"])

    def render(self) -> FrameArray:
        """The current frame, rendered at 128x128 and area-shrunk to 64x64 RGB uint8."""
        self._renderer.update_scene(self._env.data, self._camera)
        large = self._renderer.render()
        small = cv2.resize(large, (FRAME_SIZE, FRAME_SIZE), interpolation=cv2.INTER_AREA)
        return np.asarray(small, dtype=np.uint8)

    @property
    def hand(self) -> npt.NDArray[np.float64]:
        """Hand position ``(3,)`` in metres: x right, y away from the robot, z up."""
        return self.state[:3].copy()

    @property
    def placement(self) -> npt.NDArray[np.float32]:
        """Where things are, ``(7,)`` float32: hand x, y, z (m), gripper (1 open), object x, y, z (m)."""
        return self.state[:7].astype(np.float32)

    def close(self) -> None:
        """Release the renderer; calling it twice is harmless."""
        self._renderer.close()


_task: dict[tuple[str, str | None], MetaWorldTask] = {}


def process_task(task: str, shift: str | None = None) -> MetaWorldTask:
    """The simulation of this process: one renderer. Asking for another closes the one before."""
    wanted = task, shift
    if wanted not in _task:
        while _task:
            _task.popitem()[1].close()
        _task[wanted] = MetaWorldTask(task, shift)
    return _task[wanted]


def _made(kind: Any, build: Callable[[Any], None] | None) -> Any:
    """An environment of the class ``kind``; ``build`` changes the description of its scene first."""
    if build is None:
        return kind(seed=0)

    def compiled(env: Any) -> tuple[Any, Any]:
        import mujoco

        spec = mujoco.MjSpec.from_file(env.fullpath)
        build(spec)
        model = spec.compile()
        return model, mujoco.MjData(model)

    kind._initialize_simulation = compiled  # its constructor bears no subclasses
    try:
        return kind(seed=0)
    finally:
        del kind._initialize_simulation
