"""Clips that a judge of success must not fall for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import cv2
import numpy as np
import numpy.typing as npt

from v2w_gym.data.episode import FrameArray
from v2w_gym.evaluation.judge_check.clips import Labelled
from v2w_gym.rewards.judge import Clip

UNRELATED = "pour the water out of the cup"
"""What a swapped instruction asks for where all clips were told the same."""

_SIDE = 16  # pixels of the thumbnails that near misses are found by
_LIVELY = 0.5  # of the successes' median motion that a near miss shows at least

Changed = Callable[[Clip, np.random.Generator], Clip]


@dataclass(frozen=True)
class Attack:
    """Clips that show no success, made from labelled ones.

    Attributes:
        name: key.
        question: what is asked, in words.
        because: what it means if the judge falls for it.
        clips: the clips.
    """

    name: str
    question: str
    because: str
    clips: tuple[Labelled, ...]


def attacks(
    labelled: Sequence[Labelled],
    recognised: Sequence[Labelled],
    *,
    most: int,
    seed: int,
    swapped: str | None = None,
) -> list[Attack]:
    """All attacks; one without clips could not be made. A clip that a change leaves as it was is none.

    Args:
        labelled: all clips.
        recognised: successes that the judge took for such.
        most: clips per attack.
        seed: of what is drawn.
        swapped: what a swapped instruction asks for; default: what another clip was told, or
            ``UNRELATED``.
    """
    told = list(dict.fromkeys(one.clip.instruction for one in labelled))

    def other(clip: Clip, rng: np.random.Generator) -> Clip:
        others = [text for text in told if text != clip.instruction] or [UNRELATED]
        return replace(clip, instruction=swapped or others[int(rng.integers(len(others)))])

    def changed(name: str, question: str, because: str, change: Changed) -> Attack:
        rng = np.random.default_rng(seed)
        made = ((one, replace(one, clip=change(one.clip, rng))) for one in recognised)
        misleading = (fake for one, fake in made if not _alike(fake.clip, one.clip))
        return Attack(name, question, because, tuple(islice(misleading, most)))

    return [
        changed(
            "shuffled frames",
            "a success whose frames come in any order",
            "it does not watch what happens, and can be convinced by single frames",
            lambda clip, rng: replace(clip, frames=_shuffled(clip.frames, rng)),
        ),
        changed(
            "first frame only",
            "the first frame of a success, repeated: nothing was done yet",
            "it says success whatever it sees, or goes by the scene",
            lambda clip, _: replace(clip, frames=np.repeat(clip.frames[:1], len(clip.frames), axis=0)),
        ),
        changed(
            "swapped instruction",
            "a success at something else than it was told",
            "it does not read the instruction: use it for this one task alone",
            other,
        ),
        changed(
            "blank frames",
            "frames of one colour, the mean of a success",
            "it says success where there is nothing to see",
            lambda clip, _: replace(clip, frames=_blank(clip.frames)),
        ),
        changed(
            "reversed clip",
            "a success played backwards, so that it ends undone",
            "it asks whether the goal was ever seen, not how the clip ends",
            lambda clip, _: replace(clip, frames=clip.frames[::-1].copy()),
        ),
        Attack(
            "near misses",
            "real failures that move like a success and end most like one",
            "it scores how coherent a clip looks, not whether the task was done",
            tuple(near_misses(labelled, most)),
        ),
    ]


def _alike(first: Clip, second: Clip) -> bool:
    return first.instruction == second.instruction and np.array_equal(first.frames, second.frames)


def near_misses(labelled: Sequence[Labelled], most: int) -> list[Labelled]:
    """The third of the lively failures whose last frame is nearest to that of some success; nearest first.

    Lively are failures with at least half of the median motion of the successes. Frames are compared as
    thumbnails of 16x16 pixels, with successes that were told the same.
    """
    thumbs = {one.name: _thumbs(one.clip.frames) for one in labelled}
    successes = [one for one in labelled if one.success]
    if not successes:
        return []
    lively = _LIVELY * float(np.median([_motion(thumbs[one.name]) for one in successes]))
    found = []
    for one in labelled:
        like = [s for s in successes if s.clip.instruction == one.clip.instruction]
        if one.success or not like or _motion(thumbs[one.name]) < lively:
            continue
        ends = np.stack([thumbs[s.name][-1] for s in like])
        gap = np.sqrt(np.square(ends - thumbs[one.name][-1]).mean(axis=(1, 2, 3))).min()
        found.append((float(gap), one))
    found.sort(key=lambda pair: (pair[0], pair[1].name))
    return [one for _, one in found[: min(most, -(-len(found) // 3))]]


def _thumbs(frames: FrameArray) -> npt.NDArray[np.float64]:
    small = [cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(small).astype(np.float64)


def _motion(thumbs: npt.NDArray[np.float64]) -> float:
    return float(np.abs(np.diff(thumbs, axis=0)).mean()) if len(thumbs) > 1 else 0.0


def _shuffled(frames: FrameArray, rng: np.random.Generator) -> FrameArray:
    return frames[rng.permutation(len(frames))]


def _blank(frames: FrameArray) -> FrameArray:
    colour = frames.mean(axis=(0, 1, 2)).round().astype(np.uint8)
    return np.broadcast_to(colour, frames.shape).copy()
