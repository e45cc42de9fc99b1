"""Weights that a fine-tuning's start did not have: they may learn faster, or alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.test_training import SIZES, episodes
from v2w_gym.training.codec import CodecConfig, build
from v2w_gym.training.loop import LoopConfig
from v2w_gym.training.optimizer import Kind, Optimizer
from v2w_gym.training.world_model import VideoConfig, finetune
from v2w_gym.world_model.loading import read_module
from v2w_gym.world_model.unet import VideoUNet


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_fresh_weights_learn_faster(kind: Kind) -> None:
    torch.manual_seed(0)
    old, new = nn.Linear(4, 4), nn.Linear(4, 4)
    new.load_state_dict(old.state_dict())
    network = nn.ModuleDict({"old": old, "new": new})
    before = old.weight.detach().clone()
    optimizer = Optimizer(network, kind, 0.0, fresh=("new.weight", "new.bias"), fresh_rate=3.0)
    x = torch.randn(8, 4)
    (old(x).square().mean() + new(x).square().mean()).backward()
    optimizer.step(1e-3)
    torch.testing.assert_close(new.weight - before, 3.0 * (old.weight - before), rtol=1e-3, atol=1e-6)


def test_only_fresh_weights_move_when_they_are_trained_alone(tmp_path: Path) -> None:
    data = episodes(tmp_path / "data", 4, with_actions=True)
    build(CodecConfig((), (), "", channels=(8, 8, 16), latent_channels=4)).save_pretrained(tmp_path / "codec")
    torch.manual_seed(1)
    VideoUNet(**{**SIZES, "action_dim": 4}).save_pretrained(tmp_path / "start")
    config = VideoConfig(
        data=(data,),
        heldout=data,
        codec=str(tmp_path / "codec"),
        init=str(tmp_path / "start"),
        unet={**SIZES, "action_dim": 4, "set_point": [[-3.0, 3.0], None, None, None]},
        only_fresh=True,
        midway=0.5,
        loop=LoopConfig(steps=3, batch_size=2, learning_rate=1e-2, warmup=1, sample_every=9, ema=0.0),
    )
    assert finetune(config, tmp_path / "out")
    start = read_module(VideoUNet, tmp_path / "start").state_dict()
    trained = read_module(VideoUNet, tmp_path / "out" / "unet")
    after = trained.state_dict()
    fresh = after.keys() - start.keys()
    assert all(torch.equal(after[name], weight) for name, weight in start.items())
    assert all("set_point" in name for name in fresh)
    assert any("down.0" in name and after[name].abs().max() > 0 for name in fresh)
