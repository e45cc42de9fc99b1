"""Train a network that reads states from latents, and measure with it how far two latents are apart.

``v2w train reader``. A latent is mostly table and wall; that the hand is two centimetres off hardly shows in
its mean squared error, and yet decides whether the drawer closes. So fine-tuning may hold what it predicts
against the recording twice: in the latent itself, and in what a reader, trained before and then left alone,
sees in both (perceptual losses do likewise, arXiv 1603.08155). What it misreads alike in both cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from v2w_gym.data.episode import EpisodeFolder
from v2w_gym.training.latents import load_clips
from v2w_gym.training.loop import Loop, LoopConfig, Losses
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.halves import running_in


@dataclass(frozen=True)
class ReaderConfig:
    """What to train on.

    Attributes:
        data: episode folders with states.
        heldout: episode folder with states, for the errors that are printed at the end.
        codec: folder of the trained codec.
        columns: which columns of the states to read; none given means all.
        channels: width of the convolutions; the last halves the resolution.
        hidden: width of the last layer but one.
        noise: latents are shown with Gaussian noise of up to this deviation: predicted ones are not exact.
        loop: how to optimise; an item is a frame.
    """

    data: tuple[str, ...]
    heldout: str
    codec: str
    columns: tuple[int, ...] = ()
    channels: tuple[int, ...] = (64, 96, 96, 128)
    hidden: int = 256
    noise: float = 0.15
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=3000, batch_size=256))


class StateReader(ModelMixin, ConfigMixin):
    """Convolutions over one latent frame.

    Args:
        latent_channels: of a latent.
        latent_size: its height and width.
        states: numbers to read.
        channels: see :class:`ReaderConfig`.
        hidden: see :class:`ReaderConfig`.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int,
        latent_size: tuple[int, int],
        states: int,
        channels: tuple[int, ...] = (64, 96, 96, 128),
        hidden: int = 256,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, width in enumerate(channels):
            stride = 2 if i == len(channels) - 1 else 1
            layers += [nn.Conv2d(latent_channels, width, 3, stride, padding=1), nn.SiLU()]
            latent_channels = width
        places = ((latent_size[0] + 1) // 2) * ((latent_size[1] + 1) // 2)
        head = [nn.Flatten(), nn.Linear(channels[-1] * places, hidden), nn.SiLU(), nn.Linear(hidden, states)]
        self.net = nn.Sequential(*layers, *head)
        self.register_buffer("mean", torch.zeros(states))
        self.register_buffer("std", torch.ones(states))
        self.mean: torch.Tensor
        self.std: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """States ``(b, k)`` of latents ``(b, c, h, w)``, less their mean and over their deviation."""
        read: torch.Tensor = self.net(x)
        return read

    def read(self, x: torch.Tensor) -> torch.Tensor:
        """States ``(b, k)`` of latents ``(b, c, h, w)``, in the units of the recordings."""
        states: torch.Tensor = self(x) * self.std + self.mean
        return states

    def apart(self, x: torch.Tensor, y: torch.Tensor, scale: float) -> torch.Tensor:
        """How far what ``x`` shows is from what ``y`` shows, ``(b,)``; gradients reach ``x`` alone.

        The pseudo-Huber distance ``sqrt(1 + (d / scale)^2) - 1`` of each state, then their mean: square for
        small differences and linear for large ones, which are mostly of hands that can hardly be seen.

        Args:
            x: latents ``(b, c, h, w)``.
            y: others of the same shape.
            scale: where it turns from square to linear, in deviations of the states.
        """
        with torch.no_grad():
            there = self(y).float()
        distance: torch.Tensor = (1.0 + ((self(x).float() - there) / scale).square()).sqrt().mean(1) - 1.0
        return distance


def train(config: ReaderConfig, out: str | Path) -> bool:
    """Train (or go on training) a reader into ``out/reader``; returns True once all steps are done.

    Raises:
        ValueError: episodes without states, or fewer columns than are asked for.
    """
    torch.manual_seed(config.loop.seed)
    codec = FrameCodec.from_pretrained(config.codec)
    latents = load_clips(config.data, codec, config.codec, precision=config.loop.precision).latents.flatten(
        0, 1
    )
    states = load_states(config.data, config.columns).flatten(0, 1)
    size = (latents.shape[-2], latents.shape[-1])
    reader = StateReader(codec.latent_channels, size, states.shape[-1], config.channels, config.hidden)
    reader.mean.copy_(states.mean(0))
    reader.std.copy_(states.std(0).clamp(min=1e-6))
    loop = Loop(reader.train(), config.loop, out)

    def batch(rng: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.from_numpy(rng.integers(0, len(latents), size))
        return latents[rows].float(), states[rows]

    def loss(drawn: tuple[torch.Tensor, torch.Tensor], generator: torch.Generator) -> Losses:
        x, wanted = drawn
        deviation = config.noise * torch.rand(len(x), 1, 1, 1, generator=generator)
        x = (x + deviation * torch.randn(x.shape, generator=generator)).to(loop.device)
        with running_in(config.loop.precision, x.device):
            read = reader(x)
        wanted = (wanted.to(loop.device) - reader.mean) / reader.std
        return {"loss": (read.float() - wanted).square().mean()}

    done = loop.fit(batch, loss)
    loop.finish(reader, "reader")
    if loop.rank == 0:
        loop.with_average(lambda: _report(reader, config, codec))
    return done


def load_states(folders: Sequence[str | Path], columns: Sequence[int] = ()) -> torch.Tensor:
    """States ``(n, f, k)`` float32 of every episode in ``folders``.

    Raises:
        ValueError: an episode without them, or with fewer than ``columns`` ask for.
    """
    found = []
    for folder in folders:
        episodes = EpisodeFolder(folder)
        for file, episode in zip(episodes.files, episodes, strict=True):
            if episode.states is None:
                raise ValueError(
                    f"{file} holds no states, from which a reader could learn; record it again, or "
                    "fine-tune without: reader=null"
                )
            if columns and max(columns) >= episode.states.shape[1]:
                raise ValueError(f"{file} has {episode.states.shape[1]} states, columns asks for {columns}")
            found.append(torch.from_numpy(episode.states[:, list(columns) or slice(None)]).float())
    return torch.stack(found)


@torch.no_grad()
def _report(reader: StateReader, config: ReaderConfig, codec: FrameCodec) -> None:
    """Print the median and mean absolute error of each state on episodes that were not trained on."""
    latents = load_clips(
        [config.heldout], codec, config.codec, precision=config.loop.precision
    ).latents.flatten(0, 1)
    states = load_states([config.heldout], config.columns).flatten(0, 1)
    device = reader.mean.device
    parts = [reader.read(part.float().to(device)).cpu() for part in latents.split(1024)]
    error = (torch.cat(parts) - states).abs()
    for name, each in (("median", error.median(0).values), ("mean", error.mean(0))):
        print(f"{name} absolute error, held out:", " ".join(f"{value:.4g}" for value in each.tolist()))
