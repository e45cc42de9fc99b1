"""A judge of whole clips as the success detector of an environment: it is asked every so many steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from v2w_gym.arrays import Array
from v2w_gym.data.episode import FrameArray
from v2w_gym.rewards.judge import Clip, ClipJudge

EVERY = 8
"""Steps between two asks where nobody says otherwise."""


@dataclass(frozen=True)
class _Watched:
    """What is known of the episode in a slot.

    Attributes:
        instruction: what the policy was asked to do.
        frames: ``(h, w, 3)`` uint8 each, from the first on.
        probability: as the judge last said, NaN before it was asked and where it could not tell.
        whole: whether ``frames`` begin with the episode; a clip without its beginning is not judged.
    """

    instruction: str
    frames: tuple[FrameArray, ...] = ()
    probability: float = math.nan
    whole: bool = True

    def after(self, frame: FrameArray) -> _Watched:
        """One frame later; of what cannot be judged, nothing is kept."""
        return replace(self, frames=(*self.frames, np.array(frame))) if self.whole else self


@dataclass
class Watching:
    """Shows a judge the episode so far; a :class:`~v2w_gym.rewards.base.SuccessDetector`.

    A frame's probability is NaN before the first ask, and after one that the judge could not answer until the
    next; between asks it is what the judge last said. Every environment works with a ``fresh`` one, so one
    object may be given to several.

    Args:
        judge: of clips; shared by all that come from this object.
        every: steps between two asks; the frame that an episode starts from is step 0, and nobody asks of it.
        last: a step at which to ask in any case, such as an episode's last; None for none.
        fps: frames per second of real time.

    Attributes:
        abstains: a probability may be NaN, which says that nothing judged the frame.

    Raises:
        ValueError: steps below 1.
    """

    judge: ClipJudge
    every: int = EVERY
    last: int | None = None
    fps: float = 5.0
    abstains: bool = field(default=True, init=False)
    _watched: dict[int, _Watched] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"a judge is asked every 1 or more steps, got every={self.every}")

    @property
    def threshold(self) -> float:
        """Probability from which an episode so far counts as success."""
        return self.judge.threshold

    @property
    def hash(self) -> str:
        """Names the judge and when it is asked."""
        last = "" if self.last is None else f"-last-{self.last}"
        return f"{self.judge.hash}-every-{self.every}{last}"

    def fresh(self) -> Watching:
        """The same judge with an empty memory."""
        return replace(self)

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Forget the episodes in ``slots`` and begin new ones."""
        begun = zip(slots, instruction, strict=True)
        self._watched |= {slot: _Watched(asked) for slot, asked in begun}

    def score(self, frames: Any, slots: Sequence[int] | None = None) -> Array:
        """Probability ``(b,)`` float64 that the episodes up to ``frames`` ``(b, h, w, 3)`` uint8 succeeded.

        All episodes that are due are shown to the judge in one batch. An error leaves the memory as it was.

        Raises:
            ValueError: a slot without an episode, or frames that the judge does not take.
        """
        chosen = list(range(len(frames)) if slots is None else slots)
        if strange := [slot for slot in chosen if slot not in self._watched]:
            raise ValueError(f"slots {strange} have no episode; call reset(instruction, slots) first")
        seen = {slot: self._watched[slot].after(frame) for slot, frame in zip(chosen, frames, strict=True)}
        due = [slot for slot, known in seen.items() if known.whole and self._asked_at(len(known.frames) - 1)]
        clips = [Clip(np.stack(seen[slot].frames), seen[slot].instruction, self.fps) for slot in due]
        for slot, found in zip(due, self.judge.judge(clips) if clips else (), strict=True):
            probability = math.nan if found.probability is None else found.probability
            seen[slot] = replace(seen[slot], probability=probability)
        self._watched |= seen
        return np.array([seen[slot].probability for slot in chosen], np.float64)

    def _asked_at(self, step: int) -> bool:
        return step > 0 and (step % self.every == 0 or step == self.last)

    def seen(self, slots: Sequence[int]) -> tuple[FrameArray | None, ...]:
        """Frames ``(f, h, w, 3)`` uint8 of each slot from its beginning; None where that is not known."""
        known = [self._watched[slot] for slot in slots]
        return tuple(np.stack(one.frames) if one.whole and one.frames else None for one in known)

    def resume(
        self,
        instruction: Sequence[str],
        slots: Sequence[int],
        seen: Sequence[FrameArray | None],
        probabilities: Sequence[float],
    ) -> None:
        """Go on with episodes that were seen before, in this environment or another.

        Args:
            instruction: of each.
            slots: where they go on.
            seen: what :meth:`seen` gave. Where that is None, nobody can judge the rest of the episode: its
                probability is NaN up to the next reset.
            probabilities: what :meth:`score` last gave of each.
        """
        for slot, asked, frames, probability in zip(slots, instruction, seen, probabilities, strict=True):
            self._watched[slot] = (
                _Watched(asked, whole=False)
                if frames is None
                else _Watched(asked, tuple(frames), float(probability))
            )
