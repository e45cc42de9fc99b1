"""Recorded actions again, whatever is seen: what a world makes of what was once done.

Not to be confused with the shipped policy ``replay``, which has one demonstration for every start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from v2w_gym.data.episode import FrameArray
from v2w_gym.policies.observations import batch_of
from v2w_gym.policies.recordings import Recording, read_recordings
from v2w_gym.policies.simple import Actions
from v2w_gym.policies.specs import parse_spec

By = Literal["start", "seed", "order"]
Short = Literal["error", "hold"]


class RecordedPolicy:
    """Each slot does what was done in one of the recordings, from the beginning.

    Args:
        recordings: at least one, all of the same number of action components.
        by: which recording a slot gets. ``"start"``: the one whose first frame is the first that the slot
            sees, pixel by pixel. ``"seed"``: the one of the seed that ``seed`` names for the slot.
            ``"order"``: the next one, as slots are reset. None: ``"start"`` where all recordings have
            frames, else ``"order"``.
        short: what follows on a recording's last action: ``"error"`` raises, ``"hold"`` repeats it.

    Raises:
        ValueError: no recording, unlike ones, or ones that lack what ``by`` goes by.
    """

    def __init__(
        self, recordings: Sequence[Recording], *, by: By | None = None, short: Short = "error"
    ) -> None:
        self._recordings = list(recordings)
        widths = {recording.actions.shape[1] for recording in self._recordings}
        if len(widths) != 1:
            raise ValueError(f"recordings must have actions of one width, got {sorted(widths) or 'none'}")
        filmed = all(recording.frame is not None for recording in self._recordings)
        self.by: By = by if by is not None else "start" if filmed else "order"
        if self.by not in ("start", "seed", "order") or short not in ("error", "hold"):
            raise ValueError(
                f'by must be "start", "seed" or "order", short "error" or "hold", got {by}, {short}'
            )
        if self.by == "start" and not filmed:
            raise ValueError("by='start' compares first frames, which some recordings lack; say by='order'")
        if self.by == "seed" and any(recording.seed is None for recording in self._recordings):
            raise ValueError("by='seed' needs recordings with seeds, which some lack; say by='order'")
        self._short = short
        self._seeds: list[int] = []
        self._begun = 0
        self._chosen: dict[int, Recording] = {}
        self._done: dict[int, int] = {}

    def seed(self, seeds: Sequence[int]) -> None:
        """The seed of each slot, by which ``by="seed"`` chooses."""
        self._seeds = [int(seed) for seed in seeds]

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin again in ``slots``.

        Raises:
            ValueError: ``by="order"``, and there are no more recordings.
        """
        if self.by == "order" and self._begun + len(slots) > len(self._recordings):
            raise ValueError(
                f"there are {len(self._recordings)} recordings, and episode {self._begun + len(slots)} is to "
                "begin; record more, or evaluate fewer episodes"
            )
        for slot in slots:
            self._done[slot] = 0
            self._chosen.pop(slot, None)
            if self.by == "order":
                self._chosen[slot] = self._recordings[self._begun]
                self._begun += 1

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """The next actions ``(b, a)``.

        Raises:
            ValueError: no recording for a slot, or one that is over, with ``short="error"``.
        """
        slots = range(batch_of(observation))
        if fresh := [slot for slot in slots if slot not in self._done]:
            self.reset([""] * len(fresh), fresh)
        chosen = {
            slot: self._chosen[slot] if slot in self._chosen else self._find(slot, observation)
            for slot in slots
        }
        actions = np.stack([self._action(chosen[slot], slot) for slot in slots])
        self._chosen |= chosen
        for slot in slots:
            self._done[slot] += 1
        return actions

    def _find(self, slot: int, observation: Mapping[str, Any]) -> Recording:
        if self.by == "seed":
            seed = self._seeds[slot] if slot < len(self._seeds) else None
            found = [r for r in self._recordings if r.seed == seed]
            what = f"has the seed {seed}"
        else:
            frame: FrameArray = np.asarray(observation["pixels"])[slot]
            found = [r for r in self._recordings if r.frame is not None and np.array_equal(r.frame, frame)]
            what = "begins with the frame that it sees"
        if not found:
            raise ValueError(
                f"slot {slot}: none of {len(self._recordings)} recordings {what}; by=order takes them one "
                "after the other"
            )
        return found[0]

    def _action(self, recording: Recording, slot: int) -> Actions:
        step = self._done[slot]
        if step >= len(recording.actions) and self._short == "error":
            raise ValueError(
                f"slot {slot}: recording {recording.name} has {len(recording.actions)} actions, step "
                f"{step + 1} is asked for; short=hold repeats its last one"
            )
        action: Actions = recording.actions[min(step, len(recording.actions) - 1)]
        return action


@dataclass(frozen=True)
class RecordedOptions:
    """Options of ``replay:``; see :class:`RecordedPolicy`.

    Attributes:
        by: which recording a slot gets.
        short: what follows on the last action.
    """

    by: By | None = None
    short: Short = "error"


def from_spec(spec: str) -> RecordedPolicy:
    """``replay:FOLDER`` or ``replay:FILE.npz``, with :class:`RecordedOptions`.

    Raises:
        FileNotFoundError: no such folder or file, or a folder without episodes.
        ValueError: damaged files, episodes without actions, or an unknown option.
    """
    target, options = parse_spec(spec, RecordedOptions)
    return RecordedPolicy(read_recordings(Path(target)), by=options.by, short=options.short)
