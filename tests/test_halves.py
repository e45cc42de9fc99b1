"""Half precision by autocast."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from v2w_gym.world_model import halves
from v2w_gym.world_model.halves import norms_in_single_precision, running_in


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


@pytest.mark.parametrize("gains", [True, False])
def test_a_cpu_that_only_loses_by_half_precision_computes_in_single_and_says_so_once(monkeypatch, gains):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: gains)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    halves._cpu_gains.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            with running_in("bf16", torch.device("cpu")):
                assert torch.is_autocast_enabled("cpu") == gains
    assert len(said) == (not gains)
    assert all("no fast bfloat16" in str(warning.message) for warning in said)
    with running_in("fp32", torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
    halves._cpu_gains.cache_clear()
