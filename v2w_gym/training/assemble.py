"""Put trained parts together as a world folder: ``v2w assemble``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


def assemble(config: AssembleConfig, out: str | Path) -> None:
    """Write the world folder ``out``; weights are stored in 16 bits and computed with in single precision.

    The encoder's are in float16, as latents are what networks are trained on. All others are in bfloat16,
    which has three bits fewer: compressed, as in a repository, they take a quarter less, at a relative error
    of .001.

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
    model.codec.vae.decoder.bfloat16()
    model.unet.bfloat16()
    model.save_pretrained(out)
    for name, target in (("detector_weights", "detector"), ("starts", "starts")):
        if parts[name] is not None:
            shutil.copytree(parts[name], out / target, dirs_exist_ok=True)
    if parts["reality"] is not None:
        shutil.copy(parts["reality"], out / "reality.json")
    write_hashes(out)
