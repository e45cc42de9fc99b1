"""Imagined steps: who ends when, what is stored, and that nothing passes by the host."""

import numpy as np
import pytest
import torch
from dreamworld import BumpDynamics, Doubter, RightJudge, bump, bump_dream, bumps

from v2w_gym.policies.actor import Actor, ActorConfig
from v2w_gym.training.imagination.probing import look
from v2w_gym.training.imagination.rollout import Branches, unroll

SMALL = ActorConfig((4, 4), 2, 8)


def actor_that(x: float, y: float) -> Actor:
    """Always the same action."""
    actor = Actor((1, 4, 4), 2, SMALL)
    with torch.no_grad():
        actor.head.weight.zero_()
        actor.head.bias[:2] = torch.atanh(torch.tensor([x, y]).clamp(-0.9999, 0.9999))
    return actor


def begun(places, left: int = 8) -> Branches:
    latents = bump(torch.tensor(places))[:, None]
    state = BumpDynamics().init(latents, torch.zeros(len(places), 0, 2), range(len(places)))
    return Branches.of(state, torch.full((len(places),), left))


def test_steps_by_hand():
    branches = begun([[2.1, 0.0], [0.0, 0.0]], left=4)
    batch, after = unroll(bump_dream(), actor_that(1.0, 0.0), branches, 5, None)
    assert tuple(batch.batch_size) == (2, 5)
    assert batch["latent"].shape == (2, 5, 1, 4, 4)
    torch.testing.assert_close(batch["next", "latent"][:, :-1], batch["latent"][:, 1:])
    assert batch["next", "reward"][:, 0].tolist() == [1.0, 0.0]
    assert batch["running"].tolist() == [[True, False, False, False, False], [True] * 4 + [False]]
    assert batch["next", "truncated"][1].tolist() == [False, False, False, True, True]
    assert not batch["next", "truncated"][0, 0]
    assert batch["next", "terminated"][0, 0]
    assert after.ended.tolist() == [True, True]
    assert after.age.tolist() == [5, 5]


def test_the_sample_is_stored_and_the_action_is_clipped():
    batch, _ = unroll(
        bump_dream(), actor_that(0.99, 0.0), begun([[0.0, 0.0]] * 64), 1, torch.Generator().manual_seed(0)
    )
    assert batch["sample"].max() > 1.0 >= batch["action"].max()
    mean, spread = actor_that(0.99, 0.0)(batch["latent"][:, 0])
    expected = torch.distributions.Normal(mean, spread).log_prob(batch["sample"][:, 0]).sum(-1)
    torch.testing.assert_close(batch["log_prob"][:, 0], expected)


@pytest.mark.parametrize(
    ("doubt", "ended", "weights"),
    [
        ("ignore", [False, False, False], [1.0, 1.0, 1.0]),
        ("cut", [False, False, True], [1.0, 1.0, 1.0]),
        ("weigh", [False, False, False], [5 / 6, 5 / 6 * 4 / 6, 5 / 6 * 4 / 6 * 3 / 6]),
    ],
)
def test_what_becomes_of_doubt(doubt, ended, weights):
    """The bump goes down half a cell a step: credibility 5/6, 4/6, 3/6; a hair more than that is doubted."""
    dream = bump_dream(believer=Doubter(), doubt=doubt)
    batch, _ = unroll(dream, actor_that(0.0, 1.0), begun([[0.0, 0.001]]), 3, None)
    assert batch["next", "done"][0].tolist() == ended
    assert not batch["next", "terminated"].any()
    torch.testing.assert_close(batch["weight"][0], torch.tensor(weights), atol=1e-3, rtol=0)


def test_nothing_passes_by_the_host():
    """Tensors of the meta device hold no numbers: whoever reads one, or copies it to the host, fails."""
    dream = bump_dream(believer=Doubter(), doubt="cut")
    state = begun([[0.0, 0.0]] * 3).state.to("meta")
    branches = Branches.of(state, torch.ones(3, dtype=torch.int64, device="meta"))
    batch, after = unroll(dream, Actor((1, 4, 4), 2, SMALL).to("meta"), branches, 4, None)
    assert {value.device.type for value in batch.flatten_keys().values()} == {"meta"}
    assert after.state.latent.device.type == "meta"
    with pytest.raises(NotImplementedError, match="meta"):
        batch["latent"].cpu()


def test_branches_are_left_as_they_were():
    branches = begun([[1.0, 1.0]] * 2)
    before = branches.state.clone()
    unroll(bump_dream(), actor_that(1.0, 0.0), branches, 2, None)
    assert (branches.state == before).all()
    assert not branches.ended.any()


def test_drawn_moments_lie_before_any_success():
    found = bumps()
    goal = RightJudge()
    rng = np.random.default_rng(0)
    lengths = set()
    for _ in range(50):
        latents, actions = found.draw(rng, 8, moments=4, first=0.2)
        assert latents.shape[1] == actions.shape[1] + 1
        lengths.add(latents.shape[1])
        assert not (goal(latents[:, -1]) >= goal.threshold).any()
    assert lengths == {1, 2, 3, 4}


def test_a_look_counts_and_audits():
    starts = bumps(10)
    good = look(bump_dream(), RightJudge(), actor_that(1.0, 0.0), starts, 8)
    assert (good.success, good.confirmed, good.agreement, good.credibility) == (1.0, 1.0, 1.0, 1.0)
    fooled = bump_dream(judge=RightJudge(fooled=True))
    bad = look(fooled, RightJudge(), actor_that(-1.0, 0.0), starts, 8)
    assert (bad.success, bad.confirmed, bad.agreement) == (1.0, 0.0, 0.0)
    idle = look(bump_dream(believer=Doubter()), RightJudge(), actor_that(0.0, 1.0), starts, 8)
    assert (idle.success, idle.agreement) == (0.0, 1.0)
    assert idle.credibility < 0.4
