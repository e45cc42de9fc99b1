"""Train the video network: action-free non-causal pretraining, then causal fine-tuning with actions.

``v2w train pretrain`` makes a plain video-diffusion model of other tasks' videos: it looks ahead, reads no
actions and gives all frames of a clip one noise level. ``v2w train finetune`` takes its weights through
``causalize``, adds the action encoder and trains on the time axis ``twin``: next to (nearly) clean history
frames, every frame is denoised at a noise level of its own, from exactly what it will see when the model is
stepped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2w_gym.training.latents import Clips, load_clips
from v2w_gym.training.loop import Loop, LoopConfig, Losses
from v2w_gym.training.pictures import save_film
from v2w_gym.world_model.actions import shift
from v2w_gym.world_model.causalize import Transfer, causalize
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.diffusion import Diffusion, ScheduleConfig, trailing_timesteps
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.timeline import clip, twin
from v2w_gym.world_model.unet import VideoUNet
from v2w_gym.world_model.vid2world import Vid2World


@dataclass(frozen=True)
class VideoConfig:
    """Settings of both stages.

    Attributes:
        data: episode folders.
        heldout: episode folder for samples; never trained on.
        codec: folder of the trained codec.
        unet: arguments of ``VideoUNet``.
        loop: how to optimise.
        schedule: noise schedule.
        clip_frames: frames of a pretraining clip.
        init: folder of the network to start from: the pretrained one, or an earlier result; None starts anew.
        transfer: how a non-causal ``init`` is made causal.
        action_dropout: probability that a frame's action is dropped, each frame for itself.
        terminal_probability: probability that a frame starts from pure noise rather than from a random level.
        history_level: history frames are noised to a random level up to this one.
        own_history: probability that a clip's history is the model's own prediction, not the recording, so
            that it learns to go on from its own mistakes.
        own_passes: such a prediction is made from a history that is itself predicted, up to this many times
            over; how often is drawn anew for every batch. Each pass costs a third of a training step.
    """

    data: tuple[str, ...]
    heldout: str
    codec: str
    unet: Mapping[str, Any] = field(default_factory=dict)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=6000, batch_size=4))
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    clip_frames: int = 16
    init: str | None = None
    transfer: Transfer = "extrapolative"
    action_dropout: float = 0.1
    terminal_probability: float = 0.35
    history_level: int = 120
    own_history: float = 0.0
    own_passes: int = 3


def pretrain(config: VideoConfig, out: str | Path) -> bool:
    """Non-causal, action-free video diffusion into ``out/unet``; returns True once all steps are done."""
    torch.manual_seed(config.loop.seed)
    codec = FrameCodec.from_pretrained(config.codec)
    clips = load_clips(config.data, codec, config.codec)
    unet = VideoUNet(**{**config.unet, "causal": False, "action_dim": 0})
    diffusion, axis = Diffusion(config.schedule), clip(config.clip_frames, unet.config.window, causal=False)
    loop = Loop(unet.train(), config.loop, out)

    def batch(rng: np.random.Generator, size: int) -> torch.Tensor:
        return clips.draw(rng, size, config.clip_frames).latents

    def loss(x: torch.Tensor, generator: torch.Generator) -> Losses:
        level = torch.randint(0, config.schedule.num_train_timesteps, (len(x), 1), generator=generator)
        level = level.expand(-1, x.shape[1])
        e, at = torch.randn(x.shape, generator=generator), diffusion.at(level)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.loop.precision == "bf16"):
            v = unet(at.noisy(x, e), level, None, None, x[:, 0], axis)
        return {"loss": (v.float() - at.velocity(x, e)).square().mean()}

    @torch.no_grad()
    def sample(folder: Path, step: int) -> None:
        given = clips.draw(np.random.default_rng(0), 4, config.clip_frames).latents
        z = torch.randn(given.shape, generator=torch.Generator().manual_seed(0))
        levels = trailing_timesteps(20)
        for now, then in zip(levels, [*levels[1:], -1], strict=True):
            level = torch.full(z.shape[:2], now)
            v = unet(z, level, None, None, given[:, 0], axis)
            z = diffusion.ddim(z, v, level, torch.full_like(level, then))
        films = [codec.decode(x.flatten(0, 1)).unflatten(0, x.shape[:2]) for x in (given, z)]
        save_film(folder / f"sample-{step:06d}.mp4", films)

    done = loop.fit(batch, loss, sample)
    loop.finish(unet)
    return done


def start_weights(config: VideoConfig) -> VideoUNet:
    """The network to fine-tune: causal, with actions, its weights from ``config.init`` by weight transfer.

    Raises:
        ValueError: if the weights at hand do not fit, apart from an action encoder that they cannot have yet.
    """
    unet: VideoUNet = VideoUNet(**{**config.unet, "causal": True})
    if config.init is None:
        return unet
    source = VideoUNet.from_pretrained(config.init, low_cpu_mem_usage=False)
    weights = source.state_dict()
    if not source.config.causal:
        weights = causalize(weights, config.transfer)
    missing, unexpected = unet.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.startswith("action_encoder.")]
    if missing or unexpected:
        raise ValueError(
            f"{config.init} does not fit config.unet: missing {missing}, unexpected {unexpected}"
        )
    return unet


class TwinLoss:
    """The fine-tuning objective: see the module's docstring and ``VideoConfig``."""

    def __init__(self, unet: VideoUNet, config: VideoConfig) -> None:
        self.unet, self.config, self.diffusion = unet, config, Diffusion(config.schedule)

    def __call__(self, clips: Clips, generator: torch.Generator) -> Losses:
        """Mean squared error of ``v`` over every frame but the first."""
        x, actions = clips.latents, clips.actions
        if actions is None:
            raise ValueError("fine-tuning needs actions")
        history, config = x[:, :-1], self.config
        if config.own_history > 0:
            own = torch.rand(len(x), generator=generator) < config.own_history
            history = history.clone()
            history[own] = self._imagine(x[own], actions[own], generator)
        e = torch.randn(x[:, 1:].shape, generator=generator)
        level = self._levels(e.shape[:2], generator)
        v = self._run(x, history, e, level, actions, config.action_dropout, generator)
        error = (v - self.diffusion.at(level).velocity(x[:, 1:], e)).square().mean((2, 3, 4))
        pure = level == config.schedule.num_train_timesteps - 1
        return {"loss": error.mean(), "one_step": error[pure].mean() if pure.any() else error.mean()}

    def _levels(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        top = self.config.schedule.num_train_timesteps
        level = torch.randint(0, top, shape, generator=generator)
        pure = torch.rand(shape, generator=generator) < self.config.terminal_probability
        return level.masked_fill(pure, top - 1)

    @torch.no_grad()
    def _imagine(self, x: torch.Tensor, actions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """What the model itself makes of frames 0 .. f-2 in one step from pure noise; frame 0 is given."""
        history = x[:, :-1]
        if not len(x):
            return history
        for _ in range(int(torch.randint(1, self.config.own_passes + 1, (), generator=generator))):
            e = torch.randn(x[:, 1:].shape, generator=generator)
            level = torch.full(e.shape[:2], self.config.schedule.num_train_timesteps - 1)
            v = self._run(x, history, e, level, actions, 0.0, generator)
            clean = self.diffusion.at(level).clean(e, v)
            history = torch.cat([x[:, :1], clean[:, :-1]], dim=1)
        return history

    def _run(
        self,
        x: torch.Tensor,
        history: torch.Tensor,
        e: torch.Tensor,
        level: torch.Tensor,
        actions: torch.Tensor,
        dropout: float,
        generator: torch.Generator,
    ) -> torch.Tensor:
        frames = x.shape[1]
        soft = torch.rand(history.shape[:2], generator=generator).square() * self.config.history_level
        past = soft.long()
        blurred = self.diffusion.at(past).noisy(history, torch.randn(history.shape, generator=generator))
        rows = torch.cat([blurred, self.diffusion.at(level).noisy(x[:, 1:], e)], dim=1)
        leading = shift(actions)
        moved = torch.cat([leading[:, :-1], leading[:, 1:]], dim=1)
        kept = torch.rand(moved.shape[:2], generator=generator) >= dropout
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.loop.precision == "bf16"):
            v = self.unet(
                rows, torch.cat([past, level], 1), moved, kept, x[:, 0], twin(frames, self.unet.config.window)
            )
        noisy: torch.Tensor = v[:, frames - 1 :].float()
        return noisy


def finetune(config: VideoConfig, out: str | Path) -> bool:
    """Causal fine-tuning with actions into ``out/unet``; returns True once all steps are done."""
    torch.manual_seed(config.loop.seed)
    codec = FrameCodec.from_pretrained(config.codec)
    clips = load_clips(config.data, codec, config.codec)
    heldout = load_clips([config.heldout], codec, config.codec)
    unet = start_weights(config)
    loop = Loop(unet.train(), config.loop, out)

    def batch(rng: np.random.Generator, size: int) -> Clips:
        return clips.draw(rng, size)

    def sample(folder: Path, step: int) -> None:
        given = heldout.draw(np.random.default_rng(0), 6)
        films = replay(codec, unet, config, given)
        save_film(folder / f"sample-{step:06d}.mp4", films)

    done = loop.fit(batch, TwinLoss(unet, config), sample)
    loop.finish(unet)
    return done


def replay(codec: FrameCodec, unet: VideoUNet, config: VideoConfig, given: Clips) -> list[torch.Tensor]:
    """Recorded films ``(n, f, h, w, 3)`` uint8, and what the model makes of first frame and actions."""
    films = [codec.decode(given.latents.flatten(0, 1)).unflatten(0, given.latents.shape[:2])]
    size = films[0].shape[2:4]
    model = Vid2World(codec, unet, (size[0], size[1]), config.schedule, SamplerConfig(steps=2))
    assert given.actions is not None
    state = model.init(films[0][:, :1], given.actions[:, :0], list(range(len(films[0]))))
    frames = [model.decode(state.latent)]
    for i in range(given.actions.shape[1]):
        state = model.step(state, given.actions[:, i])
        frames.append(model.decode(state.latent))
    return [films[0], torch.stack(frames, dim=1)]
