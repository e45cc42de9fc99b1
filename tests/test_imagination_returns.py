"""Returns, their scale, and the critic: by hand."""

import numpy as np
import pytest
import torch

from v2w_gym.training.imagination.critic import Critic, CriticConfig, SlowCritic
from v2w_gym.training.imagination.returns import ReturnRange, lambda_returns, symexp, symlog

NONE = torch.zeros(1, 3, dtype=torch.bool)


def at(*places: int) -> torch.Tensor:
    flags = NONE.clone()
    flags[0, list(places)] = True
    return flags


def returns(reward, terminated, truncated, discount=0.5, trace=0.5):
    value = torch.tensor([[10.0, 20.0, 40.0]])
    found = lambda_returns(torch.tensor([reward]), terminated, truncated, value, discount, trace)
    return found[0].tolist()


def test_lambda_returns_by_hand():
    # R2 = 3 + .5*40 = 23; R1 = 2 + .5*(.5*20 + .5*23) = 12.75; R0 = 1 + .5*(.5*10 + .5*12.75) = 6.6875
    assert returns([1.0, 2.0, 3.0], NONE, NONE) == [6.6875, 12.75, 23.0]


def test_termination_does_not_bootstrap():
    # R2 = 3; R1 = 2, whatever the frame after it is worth; R0 = 1 + .5*(5 + .5*2) = 4
    assert returns([1.0, 2.0, 3.0], at(1, 2), NONE) == [4.0, 2.0, 3.0]


def test_truncation_bootstraps_and_hides_what_follows():
    # R1 = 2 + .5*20 = 12, and not a mixture with R2; R0 = 1 + .5*(5 + 6) = 6.5
    assert returns([1.0, 2.0, 3.0], NONE, at(1)) == [6.5, 12.0, 23.0]
    assert returns([1.0, 2.0, 99.0], NONE, at(1))[:2] == [6.5, 12.0]
    for ends in ((NONE, at(1)), (at(1), NONE)):  # imagination after an end may be anything
        assert np.isfinite(returns([1.0, 2.0, float("nan")], *ends)[:2]).all()


def test_the_ends_of_the_trace():
    assert returns([1.0, 2.0, 3.0], NONE, NONE, trace=0.0) == [6.0, 12.0, 23.0]  # one step
    assert returns([1.0, 2.0, 3.0], NONE, NONE, trace=1.0) == [1 + 1 + 0.75 + 5.0, 2 + 1.5 + 10.0, 23.0]


def test_symlog_is_undone():
    x = torch.tensor([-100.0, -0.3, 0.0, 0.3, 100.0])
    torch.testing.assert_close(symexp(symlog(x)), x)
    assert symlog(torch.tensor(np.e - 1)).item() == pytest.approx(1.0)


def test_the_range_of_returns():
    scale = ReturnRange(decay=0.5, floor=1.0)
    assert scale.update(torch.linspace(0, 1, 101)).item() == 1.0  # small returns are not blown up
    assert scale.value.item() == pytest.approx(0.9)
    assert scale.update(torch.linspace(0, 10, 101)).item() == pytest.approx(0.5 * 0.9 + 0.5 * 9.0)


def test_two_hot_keeps_the_return():
    critic = Critic((1, 4, 4), CriticConfig(bins=7, reach=2.0))
    asked = torch.tensor([-50.0, -1.0, 0.0, 0.4, 1.0, 50.0])
    weights = critic.two_hot(asked)
    assert (weights >= 0).all()
    assert ((weights > 0).sum(dim=1) <= 2).all()
    limit = critic.places[-1]
    torch.testing.assert_close(weights @ critic.places, asked.clamp(-limit, limit))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(6))


def test_a_new_critic_says_zero_and_learns_a_return():
    torch.manual_seed(0)
    critic, latents = Critic((1, 4, 4), CriticConfig((4, 4), 2, 8)), torch.randn(16, 1, 4, 4)
    assert (critic.value(latents) == 0).all()
    slow = SlowCritic(critic)
    optimizer = torch.optim.Adam(critic.parameters(), 0.02)
    for _ in range(200):
        optimizer.zero_grad()
        critic.loss(latents, torch.full((16,), 0.6)).mean().backward()
        optimizer.step()
        slow.follow(critic)
    torch.testing.assert_close(critic.value(latents), torch.full((16,), 0.6), atol=0.03, rtol=0)
    lagging = slow.values(latents[:, None])[:, 0]
    assert (lagging > 0.2).all()
    assert not any(parameter.requires_grad for parameter in slow.critic.parameters())


@pytest.mark.parametrize("values", [{"bins": 4}, {"bins": 1}, {"reach": 0.0}])
def test_a_critic_without_sense_is_refused(values):
    with pytest.raises(ValueError, match="odd number of bins"):
        CriticConfig(**values)
