"""What an audit looks at: recorded episodes, and what the world imagines from their starts and actions."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.data.episode import Episode, EpisodeFolder, FrameArray
from v2w_gym.envs.world import World
from v2w_gym.evaluation.audit.reader import shrunk
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
        lessons: recorded episodes that are not replayed, at the size that the reader sees.
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
    found = _fitting(world, config.heldout, steps)
    episodes = list(itertools.islice(found, config.episodes))
    if len(episodes) < 2:
        longest = _longest(config.heldout)
        shorter = f", or cut the audit: --steps {longest[1]}" if longest[1:] and longest[1] else ""
        raise ValueError(
            f"{config.heldout} must have two episodes of {steps} actions or more, its longest have "
            f"{longest[:2]}; record more{shorter}"
        )
    lessons = [replace(e, frames=shrunk(e.frames)) for e in itertools.islice(found, MOST_LESSONS)]
    others = [
        read_episodes(world, folder, min(steps, _shortest(folder))) if folder else None
        for folder in (config.probes, config.directions)
    ]
    replayed: Replayed = functools.partial(replay, world, device=device, sampler=sampler)
    probes, directions = (None if folder is None else Played(folder, replayed(folder)) for folder in others)
    turned = [*episodes[len(episodes) // 2 :], *episodes[: len(episodes) // 2]]
    swapped = [replace(own, actions=other.actions) for own, other in zip(episodes, turned, strict=True)]
    heldout = Played(episodes, replayed(episodes))
    return Evidence(world, heldout, replayed(swapped), lessons, probes, directions, lpips, config.within)


def read_episodes(world: World, folder: str | Path, steps: int, most: int | None = None) -> list[Episode]:
    """The first ``most`` episodes of a folder with at least ``steps`` actions, cut to that many.

    Raises:
        FileNotFoundError: a folder without episodes.
        ValueError: none is long enough, one has no actions, or one was recorded for another world.
    """
    found = list(itertools.islice(_fitting(world, folder, steps), most))
    if not found:
        raise ValueError(
            f"{folder} must have an episode of {steps} actions or more, its longest has {_longest(folder)[0]}"
        )
    return found


def _fitting(world: World, folder: str | Path, steps: int) -> Iterator[Episode]:
    """One after the other, since frames may be large and episodes many."""
    expected = (tuple(world.config.frame_size), len(world.config.action.names))
    for episode in EpisodeFolder(folder):
        if episode.actions is None:
            raise ValueError(f"the episode with seed {episode.seed} has no actions, so it cannot be replayed")
        has = (episode.frames.shape[1:3], episode.actions.shape[1])
        if has != expected:
            raise ValueError(
                f"world {world.config.name!r} has frames (h, w) of {expected[0]} and {expected[1]} action "
                f"components, the episode with seed {episode.seed} has {has[0]} and {has[1]}; "
                "it was recorded for another world"
            )
        if len(episode) > steps:
            yield replace(
                episode,
                frames=episode.frames[: steps + 1],
                actions=episode.actions[:steps],
                success=episode.success[: steps + 1],
            )


def _shortest(folder: str | Path) -> int:
    """Actions of the shortest episode."""
    return _longest(folder)[-1]


def _longest(folder: str | Path) -> list[int]:
    """Actions of each episode, most first."""
    return sorted((len(episode) - 1 for episode in EpisodeFolder(folder)), reverse=True)
