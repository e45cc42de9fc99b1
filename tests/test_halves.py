"""Half precision by autocast."""

from __future__ import annotations

import torch
from torch import nn

from v2w_gym.world_model.halves import norms_in_single_precision


def test_under_autocast_statistics_of_norms_are_taken_in_single_precision():
    network = nn.Sequential(nn.GroupNorm(2, 8))
    torch.manual_seed(0)
    x = torch.randn(4, 8, 6, 6).bfloat16()
    wanted = network(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x)
        norms_in_single_precision(network)
        exact = network(x)
    assert exact.dtype == torch.float32
    assert (exact - wanted).abs().max() < 1e-5 < (rough.float() - wanted).abs().max()


def test_half_weights_without_autocast_stay_as_they_are():
    network = nn.Sequential(nn.GroupNorm(2, 8)).to(torch.bfloat16)
    x = torch.randn(4, 8, 6, 6).bfloat16()
    before = network(x)
    norms_in_single_precision(network)
    assert torch.equal(network(x), before)
