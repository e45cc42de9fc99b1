"""Put trained parts together as a world folder: ``v2w assemble``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from v2w_gym.config import from_dict, load, to_dict
from v2w_gym.data.framing import Framing
from v2w_gym.envs.world import ActionSpec, DetectorSpec, write_hashes
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.diffusion import ScheduleConfig
from v2w_gym.world_model.loading import SCHEDULE, read_module
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.unet import VideoUNet
from v2w_gym.world_model.vid2world import Vid2World


@dataclass(frozen=True)
class AssembleConfig:
    """Parts of a world, and what its ``world.json`` says.

    Attributes:
        codec: folder of the trained codec.
        unet: folder of the fine-tuned network; the schedule that it was trained with lies beside it, as
            ``v2w train`` leaves it, else it is the default.
        name: short name of the world.
        version: raise it whenever results could change.
        frame_size: ``[h, w]`` in pixels.
        fps: frames per second of real time.
        horizon: steps of an episode.
        action: meaning of the action components.
        instructions: texts of the tasks.
        detector: kind, threshold and rule of the success detector.
        framing: how any picture becomes a frame; None takes frames of the exact size only.
        sampler: how frames are sampled.
        samplers: presets by name: values that replace those of ``sampler``.
        detector_weights: folder of the trained detector; None leaves the one that is there.
        starts: folder of start contexts; None likewise.
        reality: table of measured success; None likewise.
    """

    codec: str
    unet: str
    name: str
    version: int
    frame_size: tuple[int, int]
    fps: float
    horizon: int
    action: ActionSpec
    instructions: tuple[str, ...]
    detector: DetectorSpec
    framing: Framing | None = None
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    samplers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    detector_weights: str | None = None
    starts: str | None = None
    reality: str | None = None


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """The nearest of 255 evenly spaced values per output channel, as bfloat16, which holds them exactly.

    A channel's spacing is the least power of two at which its largest weight is no more than 127 of them; an
    error is at most half of it, 1/127 of that weight. Vectors, which are few, are only cast. What was rounded
    already stays as it is.
    """
    if weight.ndim < 2:
        return weight.bfloat16()
    largest = weight.detach().float().flatten(1).abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    spacing = torch.exp2(torch.ceil(torch.log2(largest / 127))).view(-1, *[1] * (weight.ndim - 1))
    return (torch.round(weight.float() / spacing) * spacing).bfloat16()


def assemble(config: AssembleConfig, out: str | Path) -> None:
    """Write the world folder ``out``; weights are stored in 16 bits and computed with in single precision.

    The encoder's are in float16, as latents are what networks are trained on. All others are ``rounded``
    first: compressed, as in a repository or a wheel, they take 40 % less than in float16.

    Raises:
        ValueError: a part of another size, or a preset with a value that samplers do not have.
    """
    for name, values in config.samplers.items():
        from_dict(SamplerConfig, {**to_dict(config.sampler), **values}, f"samplers.{name}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = to_dict(config)
    parts = {key: facts.pop(key) for key in ("codec", "unet", "detector_weights", "starts", "reality")}
    schedule = Path(config.unet).parent / SCHEDULE
    model = Vid2World(
        FrameCodec.from_pretrained(config.codec),
        read_module(VideoUNet, config.unet),
        config.frame_size,
        load(ScheduleConfig, schedule) if schedule.is_file() else None,
        config.sampler,
    )
    (out / "world.json").write_text(json.dumps(facts, indent=2) + "\n")
    model.codec.vae.encoder.half()
    for part in (model.codec.vae.decoder, model.unet):
        for weight in part.parameters():
            weight.data = rounded(weight.data)
    model.save_pretrained(out)
    for name, target in (("detector_weights", "detector"), ("starts", "starts")):
        if parts[name] is not None:
            shutil.copytree(parts[name], out / target, dirs_exist_ok=True)
    if parts["reality"] is not None:
        shutil.copy(parts["reality"], out / "reality.json")
    write_hashes(out)
