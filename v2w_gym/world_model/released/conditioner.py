"""The tokens that a released network reads beside its frames: of an empty caption and of the first frame."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from v2w_gym import config as configuration
from v2w_gym.weights import fill_strictly, read_weights
from v2w_gym.world_model.released.image_tower import ImageTower, ImageTowerConfig
from v2w_gym.world_model.released.resampler import Resampler, ResamplerConfig

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Sizes:
    """``config.json`` of a saved conditioner.

    Attributes:
        resampler: sizes of the resampler.
        tower: sizes of the image tower; None where there is none.
    """

    resampler: ResamplerConfig
    tower: ImageTowerConfig | None = None


class Conditioner(nn.Module):
    """Frame to tokens.

    Args:
        resampler: image tokens to those that the network reads.
        tower: frame to image tokens; None where a file lacks it, as small test files do.
        caption: ``(n, d)``, tokens of the empty caption; None likewise.
    """

    def __init__(self, resampler: Resampler, tower: ImageTower | None, caption: torch.Tensor | None) -> None:
        super().__init__()
        self.resampler, self.tower = resampler, tower
        self.register_buffer("caption", caption)
        self.caption: torch.Tensor | None

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels ``(b, 3, h, w)`` float in -1..1 to caption and image tokens ``(b, n + m, d)``.

        Raises:
            ValueError: the file had no image tower or no text tower.
        """
        if self.tower is None or self.caption is None:
            lacking = "an image tower" if self.tower is None else "the tokens of the empty caption"
            raise ValueError(
                f"this model lacks {lacking}, so it cannot begin an episode from frames; convert a "
                "checkpoint that holds `embedder.` and `cond_stage_model.` weights, as the released files do"
            )
        image = self.resampler(self.tower(pixels).to(self.resampler.latents.dtype))
        return torch.cat([self.caption.to(image).expand(len(image), -1, -1), image], dim=1)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        sizes = Sizes(self.resampler.config, None if self.tower is None else self.tower.config)
        (folder / _CONFIG).write_text(json.dumps(configuration.to_dict(sizes), indent=2) + "\n")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / _WEIGHTS)

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> Conditioner:
        """Read what ``save_pretrained`` wrote.

        Raises:
            ImportError: there is an image tower, and transformers is not installed.
            ValueError: a damaged file.
        """
        folder = Path(folder)
        sizes = configuration.load(Sizes, folder / _CONFIG)
        weights, _ = read_weights(folder / _WEIGHTS, dtype)
        with torch.device("meta"):
            tower = None if sizes.tower is None else ImageTower(sizes.tower)
            conditioner = cls(Resampler(sizes.resampler), tower, weights.get("caption")).to(dtype)
        fill_strictly(conditioner, weights, folder)
        if tower is not None:
            tower.settle()
        return conditioner.eval()
