"""Train the video network: action-free non-causal pretraining, then causal fine-tuning with actions.

``v2w train pretrain`` makes a plain video-diffusion model of other tasks' videos: it looks ahead, reads no
actions and gives all frames of a clip one noise level. ``v2w train finetune`` takes its weights through
``causalize``, adds the action encoder and trains on the time axis ``twin``: next to (nearly) clean history
frames, every frame is denoised at a noise level of its own, from exactly what it will see when the model is
stepped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2w_gym.config import to_dict
from v2w_gym.training.latents import Clips, load_clips
from v2w_gym.training.lessons import Lesson, Lessons, imagine
from v2w_gym.training.loop import Loop, LoopConfig, Losses
from v2w_gym.training.pictures import save_film
from v2w_gym.training.reader import StateReader
from v2w_gym.world_model.causalize import Transfer, causalize
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.diffusion import Diffusion, ScheduleConfig, trailing_timesteps
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.halves import running_in
from v2w_gym.world_model.loading import SCHEDULE, read_module
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.timeline import clip, twin
from v2w_gym.world_model.unet import VideoUNet


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
        own_history: share of the clips whose past is imagined by the model, not recorded; see ``lessons``.
        own_reach: how many frames on, drawn from these.
        own_sampler: how it imagines them, in the loop's precision. The errors that it should learn to live
            with are those of the sampler that will be used; one step is cheapest, and its errors are the
            smallest.
        midway: share of the draws of clips that begin amid an episode; see ``lessons``.
        only_fresh: train nothing but the weights that ``init`` did not have, no harm to the others.
        reader: folder of a trained state reader, in whose eyes predictions are held against recordings too;
            see ``training.reader``. None holds latents against latents alone.
        reader_weight: of that second error, beside 1 for the first.
        reader_scale: difference of states, in their deviations, up to which it counts by its square.
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
    own_reach: tuple[int, ...] = (4, 8, 16, 32)
    own_sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(steps=1))
    midway: float = 0.0
    only_fresh: bool = False
    reader: str | None = None
    reader_weight: float = 0.15
    reader_scale: float = 0.05


def pretrain(config: VideoConfig, out: str | Path) -> bool:
    """Non-causal, action-free video diffusion into ``out/unet``; returns True once all steps are done."""
    torch.manual_seed(config.loop.seed)
    codec = FrameCodec.from_pretrained(config.codec)
    clips = load_clips(config.data, codec, config.codec, precision=config.loop.precision)
    unet = VideoUNet(**{**config.unet, "causal": False, "action_dim": 0})
    diffusion, axis = Diffusion(config.schedule), clip(config.clip_frames, unet.config.window, causal=False)
    loop = Loop(unet.train(), config.loop, out)
    axis = axis.to(loop.device)

    def batch(rng: np.random.Generator, size: int) -> torch.Tensor:
        return clips.draw(rng, size, config.clip_frames).latents

    def loss(x: torch.Tensor, generator: torch.Generator) -> Losses:
        level = torch.randint(0, config.schedule.num_train_timesteps, (len(x), 1), generator=generator)
        level = level.expand(-1, x.shape[1])
        x, level = x.to(loop.device), level.to(loop.device)
        e, at = torch.randn(x.shape, generator=generator).to(loop.device), diffusion.at(level)
        with running_in(config.loop.precision, x.device):
            v = unet(at.noisy(x, e), level, None, None, x[:, 0], axis)
        return {"loss": (v.float() - at.velocity(x, e)).square().mean()}

    @torch.no_grad()
    def sample(folder: Path, step: int) -> None:
        given = clips.draw(np.random.default_rng(0), 4, config.clip_frames).latents.to(loop.device)
        z = torch.randn(given.shape, generator=torch.Generator().manual_seed(0)).to(loop.device)
        levels = trailing_timesteps(20, config.schedule.num_train_timesteps)
        for now, then in zip(levels, [*levels[1:], -1], strict=True):
            level = torch.full(z.shape[:2], now, device=z.device)
            v = unet(z, level, None, None, given[:, 0], axis)
            z = diffusion.ddim(z, v, level, torch.full_like(level, then))
        films = [codec.decode(x.cpu().flatten(0, 1)).unflatten(0, x.shape[:2]) for x in (given, z)]
        save_film(folder / f"sample-{step:06d}.mp4", films)

    done = loop.fit(batch, loss, sample)
    _finish(loop, unet, config)
    return done


def start_weights(config: VideoConfig) -> tuple[VideoUNet, list[str]]:
    """The network to fine-tune: causal, with actions, its weights from ``config.init`` by weight transfer.

    With it come the names of the weights that it did not find there.

    Raises:
        ValueError: if the weights at hand do not fit, apart from an action encoder that they cannot have yet.
    """
    unet: VideoUNet = VideoUNet(**{**config.unet, "causal": True})
    if config.init is None:
        return unet, []
    source = read_module(VideoUNet, config.init)
    weights = source.state_dict()
    if not source.config.causal:
        weights = causalize(weights, config.transfer)
    missing, unexpected = unet.load_state_dict(weights, strict=False)
    strange = [name for name in missing if "action_encoder." not in name and "set_point" not in name]
    if strange or unexpected:
        raise ValueError(
            f"{config.init} does not fit config.unet: missing {strange}, unexpected {unexpected}"
        )
    return unet, missing


class TwinLoss:
    """The fine-tuning objective: see the module's docstring and ``VideoConfig``."""

    def __init__(self, unet: VideoUNet, config: VideoConfig, reader: StateReader | None = None) -> None:
        self.unet, self.config, self.diffusion = unet, config, Diffusion(config.schedule)
        self.reader = reader.eval().requires_grad_(False) if reader else None

    def __call__(self, lesson: Lesson, generator: torch.Generator) -> Losses:
        """Mean squared error of ``v`` over every frame but the first, and what a reader adds to it."""
        x = lesson.latents[:, 1:]
        e = torch.randn(x.shape, generator=generator).to(x.device)
        level = self._levels(e.shape[:2], generator).to(x.device)
        at = self.diffusion.at(level)
        noisy = at.noisy(x, e)
        v = self._run(lesson, noisy, level, generator)
        error = (v - at.velocity(x, e)).square().mean((2, 3, 4))
        pure = level == self.config.schedule.num_train_timesteps - 1
        one_step = error[pure].mean() if pure.any() else error.mean()
        if self.reader is None:
            return {"loss": error.mean(), "one_step": one_step}
        guess = at.clean(noisy, v).flatten(0, 1)
        with running_in(self.config.loop.precision, x.device):
            apart = self.reader.apart(guess, x.flatten(0, 1), self.config.reader_scale).mean()
        total = error.mean() + self.config.reader_weight * apart
        return {"loss": total, "one_step": one_step, "latent": error.mean(), "state": apart}

    def _levels(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        top = self.config.schedule.num_train_timesteps
        level = torch.randint(0, top, shape, generator=generator)
        pure = torch.rand(shape, generator=generator) < self.config.terminal_probability
        return level.masked_fill(pure, top - 1)

    def _run(
        self, lesson: Lesson, noisy: torch.Tensor, level: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """``v`` of frames 1 .. f-1, each as ``noisy`` as its ``level`` says."""
        x, past, frames = lesson.latents, lesson.past, lesson.latents.shape[1]
        soft = torch.rand(past.shape[:2], generator=generator).square() * self.config.history_level
        soft_level, e_past = (
            soft.long().to(x.device),
            torch.randn(past.shape, generator=generator).to(x.device),
        )
        blurred = self.diffusion.at(soft_level).noisy(past, e_past)
        rows = torch.cat([blurred, noisy], dim=1)
        led = self.unet.leading.along(lesson.actions)
        actions = torch.cat([led[:, :-1], led[:, 1:]], dim=1)
        kept = torch.rand(actions.shape[:2], generator=generator).to(x.device) >= self.config.action_dropout
        levels, axis = torch.cat([soft_level, level], 1), twin(frames, self.unet.config.window).to(x.device)
        with running_in(self.config.loop.precision, x.device):
            v = self.unet(rows, levels, actions, kept, x[:, 0], axis)
        predicted: torch.Tensor = v[:, frames - 1 :].float()
        return predicted


def finetune(config: VideoConfig, out: str | Path) -> bool:
    """Causal fine-tuning with actions into ``out/unet``; returns True once all steps are done."""
    torch.manual_seed(config.loop.seed)
    codec = FrameCodec.from_pretrained(config.codec)
    clips = load_clips(config.data, codec, config.codec, precision=config.loop.precision)
    heldout = load_clips([config.heldout], codec, config.codec, precision=config.loop.precision)
    unet, fresh = start_weights(config)
    if config.only_fresh:
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(name in fresh)
    loop = Loop(unet.train(), config.loop, out, fresh)

    sampler = replace(config.own_sampler, precision=config.loop.precision)
    dynamics = LatentDynamics(unet, config.schedule, sampler)

    def roll(given: Clips, seeds: list[int], reach: torch.Tensor) -> torch.Tensor:
        """With the averaged weights, since it is their drift that will count; the others' is far worse."""
        imagined: torch.Tensor = loop.with_average(lambda: imagine(dynamics, given, seeds, reach))
        return imagined

    lessons = Lessons(clips, roll, config.own_history, config.own_reach, config.midway, device=loop.device)

    def batch(rng: np.random.Generator, size: int) -> Lesson:
        return lessons.draw(rng, size, loop.step)

    def sample(folder: Path, step: int) -> None:
        """Recorded films, and what the model makes of first frame and actions."""
        given = heldout.draw(np.random.default_rng(0), 6).to(loop.device)
        pair = [given.latents, imagine(dynamics, given, list(range(6)))]
        films = [codec.decode(x.cpu().flatten(0, 1)).unflatten(0, x.shape[:2]) for x in pair]
        save_film(folder / f"sample-{step:06d}.mp4", films)

    reader = None if config.reader is None else read_module(StateReader, config.reader).to(loop.device)
    done = loop.fit(batch, TwinLoss(unet, config, reader), sample)
    _finish(loop, unet, config)
    return done


def _finish(loop: Loop, unet: VideoUNet, config: VideoConfig) -> None:
    """Write the network, and beside it the schedule, without which its weights mean nothing."""
    loop.finish(unet)
    if loop.rank == 0:
        file = loop.out / SCHEDULE
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(to_dict(config.schedule), indent=2) + "\n")
