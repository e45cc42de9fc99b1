"""Recorded episodes as latents: moments to branch from, and episodes held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from v2w_gym.data.episode import EpisodeFolder
from v2w_gym.training.latents import load_clips
from v2w_gym.world_model.codec import FrameCodec

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Recordings:
    """Episodes of equal length.

    Attributes:
        latents: ``(n, f, c, h, w)``, float16 in store, float32 when drawn.
        actions: ``(n, f-1, a)`` float32.
        before_success: ``(n,)`` int64, how many frames an episode has before its first success; all of them
            where there is none.
        files: where each comes from.
    """

    latents: torch.Tensor
    actions: torch.Tensor
    before_success: npt.NDArray[np.int64]
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(c, h, w)`` of a latent."""
        return tuple(self.latents.shape[2:])

    def part(self, rows: Rows) -> Recordings:
        """Some of the episodes."""
        chosen = torch.from_numpy(rows)
        files = tuple(self.files[row] for row in rows) if self.files else ()
        return Recordings(self.latents[chosen], self.actions[chosen], self.before_success[rows], files)

    def to(self, device: torch.device) -> Recordings:
        """The same on another device."""
        return Recordings(self.latents.to(device), self.actions.to(device), self.before_success, self.files)

    def until(self, rows: Rows, moment: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents ``(b, moment + 1, c, h, w)`` and actions ``(b, moment, a)`` of episodes up to a frame."""
        chosen = torch.from_numpy(rows).to(self.latents.device)
        return self.latents[chosen, : moment + 1].float(), self.actions[chosen, :moment]

    def draw(
        self, rng: np.random.Generator, size: int, moments: int, first: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Beginnings of ``size`` episodes up to one moment, the same for all, at which none has succeeded.

        A world model that was trained on whole episodes must be given the whole beginning: what it imagines
        from the middle of an episode with a few frames of history drifts off several times as fast.

        Args:
            rng: draws everything.
            size: how many.
            moments: the moment is one of the first so many frames.
            first: probability that it is the first frame, beside its share of the others.

        Returns:
            As ``until``.
        """
        moment = 0 if rng.random() < first else int(rng.integers(moments))
        moment = min(moment, int(self.before_success.max()) - 1)
        return self.until(rng.choice(np.flatnonzero(self.before_success > moment), size), moment)


def load(
    folders: Sequence[str | Path], codec: FrameCodec, codec_path: str | Path, limit: int | None = None
) -> Recordings:
    """The first ``limit`` episodes of each folder; latents are encoded once and kept there.

    Raises:
        FileNotFoundError: a folder without episodes.
        ValueError: episodes without actions, or none that begins before its success.
    """
    clips = load_clips(folders, codec, codec_path, limit)
    if clips.actions is None:
        raise ValueError(
            f"imagination branches from episodes with actions; some in {list(map(str, folders))} have none"
        )
    files = tuple(file for folder in folders for file in EpisodeFolder(folder, limit).files)
    begins = np.array([_before_success(file) for file in files], dtype=np.int64)
    return Recordings(clips.latents, clips.actions, begins, files).part(np.flatnonzero(begins))


def split(recordings: Recordings, share: float) -> tuple[Recordings, Recordings]:
    """Episodes to branch from, and episodes held out, at least one of each.

    The name of its file says on which side an episode is, whatever lies beside it and whatever the seed of
    the run. So a policy that goes on in a later run with more recordings is not looked at from those that it
    has learned from.

    Args:
        recordings: all of them, with files.
        share: of those held out, about, above 0 and below 1.

    Raises:
        ValueError: fewer than two episodes, or all of one name.
    """
    places = np.array([_place(file) for file in recordings.files])
    known = np.unique(places)
    if len(known) < 2:
        raise ValueError(
            f"imagination needs at least 2 recorded episodes, whose files differ in name, got {len(known)}; "
            "record more: v2w record --help"
        )
    held = places <= np.clip(share, known[0], known[-2])
    return recordings.part(np.flatnonzero(~held)), recordings.part(np.flatnonzero(held))


def _place(file: Path) -> float:
    """Somewhere in 0..1, a function of the name."""
    return int.from_bytes(hashlib.sha256(file.name.encode()).digest()[:8], "big") / 2**64


def _before_success(path: Path) -> int:
    with np.load(path, allow_pickle=False) as file:  # frames stay compressed
        flags = file["success"]
    return int(np.argmax(flags)) if flags.any() else len(flags)
