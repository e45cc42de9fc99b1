"""The network compiled is the network."""

import warnings

import pytest
import torch

from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.unet import VideoUNet


def unet() -> VideoUNet:
    torch.manual_seed(0)
    network = VideoUNet(
        latent_channels=4,
        action_dim=3,
        block_out_channels=(8,),
        attention_levels=(False,),
        attention_head_dim=8,
        norm_num_groups=4,
        temporal_conv_layers=1,
        window=3,
    )
    for parameter in network.parameters():  # layers that start at zero would hide what they do
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


@pytest.mark.slow
def test_compiled_equals_uncompiled_and_leaves_the_weights_alone():
    network = unet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    dynamics, compiled = (
        LatentDynamics(network, None, SamplerConfig(steps=1, compile=c)) for c in (False, True)
    )
    state = dynamics.init(torch.randn(2, 1, 4, 4, 4), torch.zeros(2, 0, 3), [1, 2])
    action = torch.rand(2, 3)
    with pytest.warns(UserWarning, match="take about a minute each"):
        made = compiled.step(state, action)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # it says so once
        for _ in range(4):  # beyond the window
            expected = dynamics.step(state, action)
            torch.testing.assert_close(made.latent, expected.latent, rtol=1e-4, atol=1e-4)
            for name, value in made.cache.flatten_keys("|").items():
                torch.testing.assert_close(
                    value, expected.cache.flatten_keys("|")[name], rtol=1e-4, atol=1e-4
                )
            state = expected
            made = compiled.step(state, action)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_without_a_compiler_the_option_is_refused_at_once(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        RuntimeError, match="needs a C\\+\\+ compiler, and there is no 'no-such-compiler' here"
    ):
        LatentDynamics(unet(), sampler=SamplerConfig(compile=True))
