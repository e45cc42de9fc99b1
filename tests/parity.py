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

from v2w_gym.weights import fill_strictly
from v2w_gym.world_model.diffusion import ScheduleConfig
from v2w_gym.world_model.released.container import read_checkpoint
from v2w_gym.world_model.released.parts import split
from v2w_gym.world_model.released.rename import rename
from v2w_gym.world_model.released.unet import unet_config, unet_rules, unet_tensor
from v2w_gym.world_model.unet import VideoUNet

PARITY = Path(os.environ.get("V2W_PARITY", Path(__file__).parents[2] / "shared" / "parity"))
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason=f"no reference fixtures in {PARITY}")
RELEASED_SCHEDULE = ScheduleConfig(use_dynamic_rescale=True)


def read(name: str) -> dict[str, torch.Tensor]:
    """One file of fixtures."""
    return load_file(PARITY / f"{name}.safetensors")


def stage(name: str) -> dict:
    """``params`` of one of the stages that the released yaml configures, e.g. ``"unet_config"``."""
    return json.loads((PARITY / "config.json").read_text())["model"]["params"][name]["params"]


def source(part: str) -> dict[str, torch.Tensor]:
    """Weights of one part of the checkpoint, under their released names."""
    return split(read_checkpoint(PARITY / "checkpoint.ckpt"))[part]


@functools.cache
def released_unet(**changes) -> VideoUNet:
    """The UNet of the checkpoint; shared, so leave its weights alone."""
    config = unet_config(stage("unet_config")) | changes
    renamed = rename(source("unet"), unet_rules(config))
    weights = {name: unet_tensor(name, value) for name, value in renamed.items()}
    return fill_strictly(VideoUNet(**config), weights).eval()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Error of ``a``, relative to the size of ``b``."""
    return float(((a - b).norm() / b.norm()).detach())
