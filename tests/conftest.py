"""A whole world at toy size, built once per test run from real components with random weights."""

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path

os.environ["V2W_CACHE"] = tempfile.mkdtemp(prefix="v2w-cache-")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may need a network
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import numpy as np
import pytest
import torch

from v2w_gym.config import to_dict
from v2w_gym.data.starts import Context, StartContexts
from v2w_gym.envs.integrity import write_hashes
from v2w_gym.envs.world import ActionSpec, DetectorSpec, WorldConfig
from v2w_gym.rewards.classifier import ClassifierConfig, FrameClassifier

torch.set_num_threads(1)
atexit.register(shutil.rmtree, os.environ["V2W_CACHE"], ignore_errors=True)

FRAME_SIZE = (48, 48)
HORIZON = 6


def _tiny_model(action_dim=4, frame_size=FRAME_SIZE, action_bound=1.0):
    from diffusers import AutoencoderKL

    from v2w_gym.world_model.codec import FrameCodec
    from v2w_gym.world_model.sampler import SamplerConfig
    from v2w_gym.world_model.unet import VideoUNet
    from v2w_gym.world_model.vid2world import Vid2World

    torch.manual_seed(0)
    vae = AutoencoderKL(
        in_channels=12,
        out_channels=12,
        latent_channels=4,
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )
    unet = VideoUNet(
        latent_channels=4,
        action_dim=action_dim,
        block_out_channels=(8, 16),
        attention_head_dim=8,
        norm_num_groups=4,
        temporal_conv_layers=1,
        window=4,
    )
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(10.0)  # contrast, so that frames differ visibly
        for parameter in unet.parameters():  # layers that start at zero would hide the actions
            parameter.add_(0.1 * torch.randn_like(parameter))
    sampler = SamplerConfig(steps=2)
    return Vid2World(FrameCodec(vae), unet, frame_size, sampler=sampler, action_bound=action_bound)


def _tiny_starts():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 2, *FRAME_SIZE, 3), dtype=np.uint8)
    actions = rng.uniform(-1, 1, (4, 1, 4)).astype(np.float32)
    return StartContexts(
        Context(f"seed-{seed:04d}", frames[i], actions[i], seed) for i, seed in enumerate((7, 42, 43, 99))
    )


def _tiny_detector(model) -> FrameClassifier:
    """Random weights, calibrated so that about every sixth frame that ``model`` imagines is a success."""
    rng = np.random.default_rng(0)
    state = model.init(_tiny_starts().draw(rng).frames[None, -1:].repeat(8, 0), np.zeros((8, 0, 4)), range(8))
    frames = []
    for _ in range(HORIZON):
        state = model.step(state, rng.uniform(-1, 1, (8, 4)))
        frames.append(model.decode(state.latent))
    torch.manual_seed(0)
    detector = FrameClassifier(ClassifierConfig(FRAME_SIZE, (4, 8, 8), 2, 8))
    logits = detector.logits(torch.cat(frames))
    spread = float(logits.std())
    return detector.calibrated(spread, -float(logits.quantile(5 / 6)) / spread, 0.5)


@pytest.fixture(scope="session")
def tiny_model():
    """Builds the tiny model, for other actions and frames where a test needs them."""
    return _tiny_model


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a world: 48x48 frames, 4 action components, horizon 6, 4 starts with 2 context frames each.

    About every sixth imagined frame counts as a success. Do not write into it: copy it first.
    """
    folder = tmp_path_factory.mktemp("worlds") / "tiny"
    model = _tiny_model()
    model.save_pretrained(folder)
    _tiny_detector(model).save_pretrained(folder / "detector")
    _tiny_starts().save(folder / "starts")
    model_part = json.loads((folder / "world.json").read_text())
    config = WorldConfig(
        name="tiny",
        version=0,
        frame_size=FRAME_SIZE,
        fps=20.0,
        horizon=HORIZON,
        window=model_part["window"],
        action=ActionSpec(("dx", "dy", "dz", "gripper"), (-1.0,) * 4, (1.0,) * 4, "1"),
        instructions=("close the drawer", "open the drawer"),
        sampler=model_part["sampler"],
        detector=DetectorSpec("classifier", 0.5),
    )
    (folder / "world.json").write_text(json.dumps(to_dict(config)))
    (folder / "reality.json").write_text(json.dumps({"policies": {"still": {"success": 0.0}}}))
    write_hashes(folder)
    return folder
