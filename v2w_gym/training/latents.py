"""Episodes as latents in memory: encoded once, kept beside the codec that made them, drawn as clips."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from v2w_gym.data.episode import EpisodeFolder
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.halves import Precision, running_in


@dataclass(frozen=True)
class Clips:
    """Clips of equal length.

    Attributes:
        latents: ``(n, f, c, h, w)``, float16 in store, float32 when drawn.
        actions: ``(n, f-1, a)`` float32, or None for action-free videos.
    """

    latents: torch.Tensor
    actions: torch.Tensor | None

    def to(self, device: torch.device) -> Clips:
        """The same clips on another device."""
        actions = None if self.actions is None else self.actions.to(device)
        return Clips(self.latents.to(device), actions)

    def draw(self, rng: np.random.Generator, size: int, frames: int | None = None) -> Clips:
        """``size`` random clips, cut to ``frames`` consecutive frames at a random place if that is given."""
        rows = torch.from_numpy(rng.integers(0, len(self.latents), size))
        latents = self.latents[rows].float()
        actions = None if self.actions is None else self.actions[rows]
        if frames is None:
            return Clips(latents, actions)
        begin = int(rng.integers(0, latents.shape[1] - frames + 1))
        cut = None if actions is None else actions[:, begin : begin + frames - 1]
        return Clips(latents[:, begin : begin + frames], cut)


def load_clips(
    folders: Sequence[str | Path],
    codec: FrameCodec,
    codec_path: str | Path,
    limit: int | None = None,
    precision: Precision = "fp32",
) -> Clips:
    """Latents and actions of the first ``limit`` episodes of each folder, which caches them in a file.

    A cache that is older than one of its episodes is made anew. ``precision`` is that in which the codec
    runs: "bf16" differs from "fp32" by a mean square of 1e-5, where latents have 1.
    """
    parts = [_load_folder(Path(folder), codec, Path(codec_path), limit, precision) for folder in folders]
    actions = [part.actions for part in parts]
    kept = None if any(a is None for a in actions) else torch.cat([a for a in actions if a is not None])
    return Clips(torch.cat([part.latents for part in parts]), kept)


def _load_folder(
    folder: Path, codec: FrameCodec, codec_path: Path, limit: int | None, precision: Precision
) -> Clips:
    episodes = EpisodeFolder(folder, limit)
    weights = next(codec_path.glob("*.safetensors")).read_bytes()
    name = hashlib.sha256(weights + "".join(f.name for f in episodes.files).encode()).hexdigest()[:12]
    name += "" if precision == "fp32" else f"-{precision}"
    cache = folder / f"latents-{name}.pt"
    newest = max(file.stat().st_mtime for file in episodes.files)
    if not cache.exists() or cache.stat().st_mtime < newest:
        latents, actions = [], []
        for episode in tqdm(episodes, total=len(episodes), desc=f"encoding {folder.name}", mininterval=5):
            with running_in(precision, codec.mean.device):
                latents.append(codec.encode(torch.from_numpy(episode.frames)).half())
            if episode.actions is not None:
                actions.append(torch.from_numpy(episode.actions))
        stored = {"latents": torch.stack(latents)}
        if len(actions) == len(latents):
            stored["actions"] = torch.stack(actions)
        unfinished = cache.with_suffix(f".{os.getpid()}.partial")  # several processes may train together
        torch.save(stored, unfinished)
        os.replace(unfinished, cache)
    stored = torch.load(cache, weights_only=True)
    return Clips(stored["latents"], stored.get("actions"))
