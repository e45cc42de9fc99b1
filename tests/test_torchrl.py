"""The TorchRL environment equals the vector environment that it holds, and TorchRL's pieces work on it."""

import gymnasium
import numpy as np
import pytest
import torch
from tensordict.nn import TensorDictModule
from test_torch_output import Traffic

import v2w_gym
from v2w_gym.registration import GENERIC_ID

pytest.importorskip("torchrl")
from torchrl.collectors import Collector
from torchrl.envs import CatFrames, Compose, RewardSum, StepCounter, ToTensorImage, TransformedEnv
from torchrl.envs.utils import check_env_specs

SLOTS, HORIZON = 3, 6


def make_vec(tiny_world, autoreset_mode="disabled", output="torch", **settings):
    settings |= {"autoreset_mode": autoreset_mode, "output": output}
    return gymnasium.make_vec(GENERIC_ID, num_envs=SLOTS, world=str(tiny_world), **settings)


def make(tiny_world, **settings):
    return v2w_gym.TorchRLEnv(make_vec(tiny_world, **settings))


def leaning():
    """A policy that reads the pixels, and whose actions differ between slots."""

    def act(pixels):
        flat = pixels.float().flatten(1) / 255
        return torch.stack([(flat[:, i::4].mean(1) * 40).sin() for i in range(4)], dim=1)

    return TensorDictModule(act, in_keys=["pixels"], out_keys=["action"])


@pytest.mark.parametrize("settings", [{"reward": "dense"}, {"obs_type": "pixels", "horizon": 2}])
def test_it_keeps_what_its_specs_promise(tiny_world, settings):
    env = make(tiny_world, **settings)
    assert env.batch_size == (SLOTS,)
    check_env_specs(env, seed=0)
    assert env.observation_spec["pixels"].dtype == torch.uint8
    assert env.action_spec.space.low.unique().tolist() == [-1.0]
    assert env.action_spec.space.high.unique().tolist() == [1.0]
    env.close()


def test_a_rollout_equals_the_vector_environment_and_resets_ended_slots_alone(tiny_world):
    env, envs = make(tiny_world, reward="dense"), make_vec(tiny_world, reward="dense")
    policy = leaning()
    env.set_seed(5)
    seen = env.rollout(10, policy, break_when_any_done=False)
    observation, infos = envs.reset(seed=5)
    ends = 0
    for t in range(10):
        row = seen[:, t]
        assert torch.equal(row["pixels"], observation["pixels"])
        assert torch.equal(row["success_prob"][:, 0], infos["success_prob"])
        observation, rewards, terminated, truncated, infos = envs.step(row["action"])
        after = row["next"]
        assert torch.equal(after["pixels"], observation["pixels"])
        assert torch.equal(after["reward"][:, 0], rewards)
        assert torch.equal(after["terminated"][:, 0], terminated)
        assert torch.equal(after["truncated"][:, 0], truncated)
        assert torch.equal(after["is_success"][:, 0], infos["is_success"])
        over = terminated | truncated
        ends += int(over.sum())
        if over.any():
            before = infos["success_prob"]
            observation, begun = envs.reset(options={"reset_mask": over})
            infos = {"success_prob": torch.where(over, begun["success_prob"], before)}
    assert ends > SLOTS
    done = seen["next", "done"]
    assert (done.any(0) & ~done.all(0)).any()  # some resets were partial


def test_one_seed_gives_one_rollout(tiny_world):
    env, other, policy = make(tiny_world), make(tiny_world), leaning()
    rolls = []
    for one, seed in ((env, 7), (env, 7), (other, 7), (env, 8)):
        one.set_seed(seed)
        rolls.append(one.rollout(4, policy, break_when_any_done=False))
    first, again, elsewhere, different = rolls
    assert (first == again).all()
    assert (first == elsewhere).all()
    assert (first["pixels"] != different["pixels"]).any()
    onward = env.rollout(4, policy, break_when_any_done=False)  # without a seed the stream goes on
    assert (onward["pixels"] != different["pixels"]).any()


def test_a_collector_fills_its_batches(tiny_world):
    torch.manual_seed(0)
    env = TransformedEnv(
        make(tiny_world, reward="dense"),
        Compose(
            ToTensorImage(in_keys=["pixels"], out_keys=["image"]),
            CatFrames(2, dim=-3, in_keys=["image"]),
            StepCounter(),
            RewardSum(),
        ),
    )
    check_env_specs(env, seed=3)
    collector = Collector(env, None, frames_per_batch=4 * SLOTS, total_frames=12 * SLOTS)
    collector.set_seed(3)
    batches = [batch.clone() for batch in collector]
    collector.shutdown()
    found = torch.cat(batches, dim=1)
    assert found.batch_size == (SLOTS, 12)
    assert found["image"].shape == (SLOTS, 12, 6, 48, 48)
    assert found["image"].max() <= 1
    assert found["step_count"].max() < HORIZON
    done = found["next", "done"][..., 0]
    assert done.any()
    assert torch.equal(found["next", "truncated"], found["next", "step_count"] == HORIZON)
    total = torch.zeros(SLOTS)
    for t in range(12):
        total = total + found["next", "reward"][:, t, 0]
        torch.testing.assert_close(found["next", "episode_reward"][:, t, 0], total)
        total[done[:, t]] = 0
    assert torch.equal(found["next", "success_prob"], found["next", "reward"])


def test_episodes_begin_where_they_are_told(tiny_world):
    env = make(tiny_world)
    starts = v2w_gym.World.open(tiny_world).starts()
    begun = env.reset(options={"start": ["seed-0099", "seed-0007", "seed-0042"]})
    expected = np.stack([starts.by_id(f"seed-00{n}").frames[-1] for n in ("99", "07", "42")])
    np.testing.assert_array_equal(begun["pixels"].numpy(), expected)
    with pytest.raises(ValueError, match="did you mean 'start'"):
        env.reset(options={"strat": "seed-0007"})


def test_nothing_large_passes_through_the_host(tiny_world, monkeypatch):
    env = make(tiny_world, terminate_on_success=False)
    tensordict = env.rand_action(env.reset())
    traffic = Traffic(monkeypatch)
    env.step(tensordict)
    monkeypatch.undo()
    assert traffic.trips
    assert max(size for _, size in traffic.trips) <= SLOTS + 1


def test_what_does_not_fit_is_refused(tiny_world):
    with pytest.raises(ValueError, match=r"got autoreset_mode 'same_step' and output='torch'"):
        make(tiny_world, autoreset_mode="same_step")
    with pytest.raises(ValueError, match=r"output='numpy'; make .*output=\"torch\""):
        make(tiny_world, output="numpy")
    with pytest.raises(ValueError, match=r"got SyncVectorEnv; make one with gymnasium\.make_vec"):
        v2w_gym.TorchRLEnv(gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"))
