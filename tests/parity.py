"""Values that the public implementation computed, for tests that compare with it.

They lie beside the checkout, or where ``V2W_PARITY`` says; fixtures of any size will do.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from v2w_gym.world_model.diffusion import ScheduleConfig
from v2w_gym.world_model.loading import read_module
from v2w_gym.world_model.released.container import read_checkpoint
from v2w_gym.world_model.released.parts import split
from v2w_gym.world_model.released.source import located
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.unet import VideoUNet
from v2w_gym.world_model.vid2world import Vid2World

PARITY = Path(os.environ.get("V2W_PARITY", Path(__file__).parents[2] / "shared" / "parity"))
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason=f"no reference fixtures in {PARITY}")
CHECKPOINT, CONFIG = PARITY / "checkpoint.ckpt", PARITY / "config.json"
RELEASED_SCHEDULE = ScheduleConfig(use_dynamic_rescale=True)
RELEASED_SAMPLER = SamplerConfig(
    steps=50,
    guidance_scale=2.5,
    guidance_rescale=0.7,
    history="recompute",
    history_level="penultimate",
    eta=1.0,
    last_level=0,
    sample_posterior=True,
)
"""What the public code does."""


def read(name: str) -> dict[str, torch.Tensor]:
    """One file of fixtures."""
    return load_file(PARITY / f"{name}.safetensors")


def stage(name: str) -> dict:
    """``params`` of one of the stages that the released yaml configures, e.g. ``"unet_config"``."""
    return json.loads(CONFIG.read_text())["model"]["params"][name]["params"]


def source(part: str) -> dict[str, torch.Tensor]:
    """Weights of one part of the checkpoint, under their released names."""
    return split(read_checkpoint(CHECKPOINT))[part]


@functools.cache
def released_model() -> Vid2World:
    """The model of the checkpoint, by the way that users take; shared, so leave its weights alone."""
    return Vid2World.from_pretrained(CHECKPOINT, config=CONFIG)


@functools.cache
def released_unet(**changes) -> VideoUNet:
    """Its UNet; with ``changes`` of its configuration, another one."""
    if not changes:
        return released_model().unet
    return read_module(VideoUNet, located(CHECKPOINT, CONFIG) / "unet", **changes)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Error of ``a``, relative to the size of ``b``."""
    return float(((a - b).norm() / b.norm()).detach())
