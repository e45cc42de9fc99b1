"""What both environments are told at construction, and the parts they are built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from v2w_gym.data.episode import FrameArray
from v2w_gym.data.outside import starts_from
from v2w_gym.data.starts import Starts
from v2w_gym.envs.actions import Actions, actions_of
from v2w_gym.envs.world import World, WorldConfig, check_sizes
from v2w_gym.registration import GENERIC_ID, SHIPPED_WORLDS
from v2w_gym.rewards.base import SuccessDetector
from v2w_gym.rewards.judge import ClipJudge
from v2w_gym.rewards.watching import EVERY, Watching
from v2w_gym.world_model.base import Believer, WorldModel

WorldLike = str | Path | World | WorldConfig
DetectorLike = SuccessDetector | ClipJudge | str | Path
"""A success detector, a judge of clips, or the name or YAML file of one."""
StartsLike = Starts | str | Path | FrameArray
"""Start contexts, or what :func:`~v2w_gym.data.outside.starts_from` makes them of."""


@dataclass(frozen=True)
class Settings:
    """Keyword arguments shared by :class:`WorldModelEnv` and :class:`WorldModelVectorEnv`.

    Attributes:
        output: ``"numpy"`` gives arrays. ``"torch"`` gives tensors on the model's device and takes actions
            that lie there, so that neither frames nor actions nor rewards pass through the host.
        obs_type: ``"dict"`` observes ``{"pixels": image}``, ``"pixels"`` the bare image, uint8 ``(h, w, 3)``.
        reward: ``"sparse"`` is 1.0 on success and 0.0 otherwise, ``"dense"`` the detector's probability.
        terminate_on_success: end the episode at the first frame judged a success.
        horizon: steps after which an episode is truncated; None takes the world's.
        max_episode_steps: shortens the horizon further; None or -1 leaves it. ``make_vec`` may pass it.
        device: where the world model runs, e.g. ``"cuda"``.
        dtype: of its weights; "bf16" takes half the memory.
        sampler: one of the world's presets, e.g. ``"fast"``, or values that replace those of its sampler,
            e.g. ``{"steps": 2}``.
        unpadded: ``render()`` and the window leave out the black bars around the picture; observations keep
            the size that the model reads.
        context_frames: how many frames an episode starts from where ``starts`` is a clip with actions; None
            takes the whole clip, so a recorded episode then goes on where it ended.
        weights: where the weights of a released id come from: a checkpoint file, a folder or a hub id.
        preset: ``"tiny-random"`` opens a released id with a small model of random weights, to try code with.
        credibility: say in ``info["credibility"]`` how far each frame can be believed, where the world can
            tell; False saves the little that it costs.
        judge_every: steps between two asks of a judge of clips, where ``detector`` names or is one; the
            step at the horizon is judged in any case.
        stop_when_not_credible: truncate an episode at the first frame whose credibility is below the world's
            threshold; ``info["truncated_because"]`` then says ``"not credible"``, else ``"horizon"``.
    """

    output: Literal["numpy", "torch"] = "numpy"
    obs_type: Literal["dict", "pixels"] = "dict"
    reward: Literal["sparse", "dense"] = "sparse"
    terminate_on_success: bool = True
    horizon: int | None = None
    max_episode_steps: int | None = None
    device: str = "cpu"
    dtype: Literal["fp32", "bf16"] = "fp32"
    sampler: str | Mapping[str, Any] | None = None
    unpadded: bool = False
    context_frames: int | None = None
    weights: str | Path | None = None
    preset: Literal["tiny-random"] | None = None
    credibility: bool = True
    judge_every: int = EVERY
    stop_when_not_credible: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("horizon", 1), ("max_episode_steps", -1)):
            value = getattr(self, name)
            if value is not None and (value < allowed or value == 0):
                raise ValueError(
                    f"{name} must be at least 1 step, got {value}; leave it out to take the world's"
                )
        if self.judge_every < 1:
            raise ValueError(f"judge_every must be at least 1 step, got {self.judge_every}")
        if self.context_frames is not None and self.context_frames < 1:
            raise ValueError(
                f"context_frames must be at least 1, got {self.context_frames}; leave it out to take all"
            )
        if self.stop_when_not_credible and not self.credibility:
            raise ValueError("stop_when_not_credible needs credibility; leave credibility=False out")

    def steps(self, config: WorldConfig) -> int:
        """Steps after which an episode of this world is truncated."""
        horizon = self.horizon or config.horizon
        limit = self.max_episode_steps
        return horizon if limit in (None, -1) else min(horizon, limit)


@dataclass(frozen=True)
class Parts:
    """A world's facts and its plug-ins.

    ``starts`` is None where it ships none, ``believer`` where it cannot tell what to believe.
    """

    config: WorldConfig
    model: WorldModel
    detector: SuccessDetector
    starts: Starts | None
    actions: Actions
    believer: Believer | None = None


def gather(
    world: WorldLike | Parts | None,
    settings: Settings,
    model: WorldModel | None = None,
    detector: DetectorLike | None = None,
    starts: StartsLike | None = None,
) -> Parts:
    """Open ``world``; an object given for one of its parts takes that part's place.

    Args:
        world: registered id, folder, hub id, opened world, a ``WorldConfig`` with all three objects, or what
            this function gave before.
        settings: device, dtype, sampler, context_frames, weights, preset and what is said of credibility are
            read.
        model: a world model; the world's credibility was not made for it and is left out.
        detector: a success detector, a judge of clips, or the name or YAML of one.
        starts: start contexts, or an image, a clip, a folder of them, or an array.

    Raises:
        FileNotFoundError: no such starts.
        ValueError: no world, a model of another size than the world's, starts that do not fit it, or a world
            that cannot tell what is credible where that should end episodes.
    """
    if isinstance(world, Parts):
        return world
    if world is None:
        raise ValueError(
            f'{GENERIC_ID} needs a world: gym.make("v2w_gym:{GENERIC_ID}", world="path-or-hub-id"); '
            f"shipped worlds have ids of their own: {', '.join(SHIPPED_WORLDS)}"
        )
    if isinstance(world, WorldConfig):
        if model is None or detector is None or starts is None:
            raise ValueError("a bare WorldConfig needs the objects model, detector and starts beside it")
        actions = actions_of(world.action)
        detector = _detector(detector, world, settings)
        parts = Parts(world, model, detector, _starts(starts, world, actions, settings), actions)
    else:
        opened = world if isinstance(world, World) else World.open(world, settings.weights, settings.preset)
        actions = actions_of(opened.config.action)
        brought = None if starts is None else _starts(starts, opened.config, actions, settings)
        parts = Parts(  # what the caller brought is read first: its mistakes should not wait for the weights
            opened.config,
            model
            if model is not None
            else opened.deferred_model(settings.device, settings.sampler, dtype=settings.dtype),
            opened.detector(settings.device)
            if detector is None
            else _detector(detector, opened.config, settings),
            opened.starts() if brought is None and opened.ships_starts else brought,
            actions,
            opened.believer(settings.device) if settings.credibility and model is None else None,
        )
    if model is not None:
        check_sizes(parts.config, model)
    if settings.stop_when_not_credible and parts.believer is None:
        raise ValueError(
            f"world {parts.config.name!r} cannot tell what is credible, so stop_when_not_credible has no "
            "meaning; leave it out, or teach the world: v2w credibility fit --help"
        )
    return parts


def _detector(given: DetectorLike, config: WorldConfig, settings: Settings) -> SuccessDetector:
    """A judge of clips, opened if it is named, watches the episodes."""
    if isinstance(given, str | Path):
        from v2w_gym.rewards.judges import open_judge

        given = open_judge(given, device=settings.device)
    if hasattr(given, "score"):
        return cast(SuccessDetector, given)
    return Watching(given, settings.judge_every, settings.steps(config), config.fps)


def _starts(starts: StartsLike, config: WorldConfig, actions: Actions, settings: Settings) -> Starts:
    if not isinstance(starts, str | Path | np.ndarray):
        if not callable(getattr(starts, "draw", None)):
            raise ValueError(
                "starts must be a path, a uint8 array or an object with draw and by_id, "
                f"got {type(starts).__name__}; make one with v2w_gym.StartContexts([v2w_gym.Context(...)])"
            )
        return starts
    dim = len(config.action.names)
    contexts = starts_from(starts, config.frame_size, dim, config.framing, length=settings.context_frames)
    for context in map(contexts.by_id, contexts.ids):
        actions.recorded(context.actions, context.actions.shape)
    return contexts
