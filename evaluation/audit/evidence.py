"""What an audit looks at: recorded episodes, and what the world imagines from their starts and actions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.data.episode import Episode, EpisodeFolder, FrameArray
from v2w_gym.envs.world import World
from v2w_gym.evaluation.metrics_lpips import Lpips, load_lpips
from v2w_gym.evaluation.replay import Replay, replay

Replayed = Callable[[Sequence[Episode]], Replay]

MOST_LESSONS = 400  # recorded episodes that the reader learns from


@dataclass(frozen=True)
class AuditConfig:
    """Where to find what is needed, and what is promised.

    Attributes:
        heldout: folder of held-out episodes, recorded like the training data. The first ``episodes`` are
            replayed; from the others the action reader learns.
        probes: folder of episodes of behaviours that never succeed, among them ``still``; None leaves out
            what needs it.
        directions: folder of constant actions and their mirror images, at full and half size; None likewise.
        episodes: how many held-out episodes to replay.
        steps: actions per episode; None takes the world's horizon. Longer episodes are cut, shorter ones are
            left out.
        within: distance of the horizon certificate, as PSNR in dB that an imagined frame must reach.
        lpips: files of the features and of the heads, see ``metrics_lpips``; None leaves LPIPS out.
        protocol: name of one of the paper's test protocols to score clips by as well, see ``clips``.
        again: run held-out episodes in reality again, with noise of this standard deviation in their actions,
            to see how far reality agrees with itself; needs Meta-World. None leaves that out.
    """

    heldout: str
    probes: str | None = None
    directions: str | None = None
    episodes: int = 100
    steps: int | None = None
    within: float = 20.0
    lpips: tuple[str, str] | None = None
    protocol: str | None = None
    again: float | None = None

    def __post_init__(self) -> None:
        if self.episodes < 2:
            raise ValueError(f"an audit needs at least 2 held-out episodes, got episodes={self.episodes}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


@dataclass(frozen=True)
class Played:
    """Recorded episodes and their replay.

    Attributes:
        episodes: ``n`` equally long ones.
        replay: what the world made of them.
    """

    episodes: Sequence[Episode]
    replay: Replay

    @functools.cached_property
    def recorded(self) -> FrameArray:
        """``(n, f, h, w, 3)`` uint8."""
        return np.stack([episode.frames for episode in self.episodes])

    @functools.cached_property
    def actions(self) -> npt.NDArray[np.float32]:
        """``(n, f-1, a)``."""
        return np.stack([episode.actions for episode in self.episodes if episode.actions is not None])


@dataclass(frozen=True)
class Evidence:
    """All that the probes of one audit read.

    Attributes:
        world: whose audit it is.
        heldout: held-out episodes.
        swapped: the same starts and noise, each with the actions of another of these episodes.
        lessons: recorded episodes that are not replayed.
        probes: episodes that never succeed, or None.
        directions: constant actions, or None.
        lpips: the distance, or None.
        within: see ``AuditConfig``.
    """

    world: World
    heldout: Played
    swapped: Replay
    lessons: Sequence[Episode]
    probes: Played | None
    directions: Played | None
    lpips: Lpips | None
    within: float


def gather(
    world: World,
    config: AuditConfig,
    *,
    device: str = "cpu",
    sampler: str | Mapping[str, Any] | None = None,
) -> Evidence:
    """Read the recordings and imagine them.

    Raises:
        FileNotFoundError: a folder without episodes, or LPIPS weights that are not there.
        ValueError: no episodes that are long enough, ones without actions, or of another frame size.
    """
    lpips = None if config.lpips is None else load_lpips(*config.lpips)
    steps = world.config.horizon if config.steps is None else config.steps
    known = read_episodes(config.heldout, steps, config.episodes + MOST_LESSONS)
    episodes, lessons = known[: config.episodes], known[config.episodes :]
    if len(episodes) < 2:
        raise ValueError(f"{config.heldout} has only one episode of {steps} actions; an audit needs two")
    others = [
        read_episodes(folder, None) if folder else None for folder in (config.probes, config.directions)
    ]
    _check_sizes(world, [*known, *(e for folder in others if folder for e in folder)])
    replayed: Replayed = functools.partial(replay, world, device=device, sampler=sampler)
    probes, directions = (None if folder is None else Played(folder, replayed(folder)) for folder in others)
    turned = [*episodes[len(episodes) // 2 :], *episodes[: len(episodes) // 2]]
    swapped = [replace(own, actions=other.actions) for own, other in zip(episodes, turned, strict=True)]
    heldout = Played(episodes, replayed(episodes))
    return Evidence(world, heldout, replayed(swapped), lessons, probes, directions, lpips, config.within)


def read_episodes(folder: str | Path, steps: int | None, most: int | None = None) -> list[Episode]:
    """The first ``most`` episodes of a folder with at least ``steps`` actions, cut to that many.

    Args:
        folder: where they lie.
        steps: None takes as many as the shortest has.
        most: None takes all.

    Raises:
        ValueError: none is long enough, or one has no actions.
    """
    files = EpisodeFolder(folder)
    if steps is None:
        whole = list(files)[:most]
        steps = min(len(episode) for episode in whole) - 1
    found: list[Episode] = []
    longest = 0
    for episode in files:
        longest = max(longest, len(episode) - 1)
        if len(episode) > steps:
            found.append(_cut(episode, steps))
        if len(found) == most:
            break
    if not found:
        raise ValueError(
            f"no episode in {folder} has {steps} actions, the longest has {longest}; "
            f"cut the audit to it: --steps {longest}"
        )
    return found


def _cut(episode: Episode, steps: int) -> Episode:
    if episode.actions is None:
        raise ValueError(f"the episode with seed {episode.seed} has no actions, so it cannot be replayed")
    return replace(
        episode,
        frames=episode.frames[: steps + 1],
        actions=episode.actions[:steps],
        success=episode.success[: steps + 1],
    )


def _check_sizes(world: World, episodes: Sequence[Episode]) -> None:
    expected = (tuple(world.config.frame_size), len(world.config.action.names))
    for episode in episodes:
        components = 0 if episode.actions is None else episode.actions.shape[1]
        if (episode.frames.shape[1:3], components) != expected:
            raise ValueError(
                f"world {world.config.name!r} has frames (h, w) of {expected[0]} and {expected[1]} action "
                f"components, the episode with seed {episode.seed} has {episode.frames.shape[1:3]} and "
                f"{components}; it was recorded for another world"
            )
