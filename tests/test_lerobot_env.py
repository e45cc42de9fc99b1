"""Our vector environment in the hands of LeRobot's evaluator.

``rollout`` and ``evaluate`` below are written from what LeRobot 7427f3180 (0.6.2) does in
``scripts/lerobot_eval.py``: which methods it calls, what it reads, and what it makes of it.
"""

import gymnasium
import numpy as np
import pytest
import torch
from alike import assert_alike

from v2w_gym.registration import GENERIC_ID

SLOTS, HORIZON = 4, 2


class ConstantPolicy(torch.nn.Module):
    """What a LeRobot policy comes down to for the loop: ``reset`` and ``select_action`` of a batch."""

    def reset(self):
        self.tasks = []

    def select_action(self, batch):
        self.tasks.append(batch["task"])
        image = batch["observation.image"]
        assert image.shape[1] == 3
        assert 0 <= image.min() <= image.max() <= 1
        return torch.full((len(image), 4), 0.5)


def preprocess(observation):
    pixels = torch.from_numpy(observation["pixels"])
    _, h, w, c = pixels.shape
    assert c < min(h, w)
    assert pixels.dtype == torch.uint8
    return {"observation.image": pixels.permute(0, 3, 1, 2).contiguous().float() / 255}


def successes_of(info, slots):
    if "final_info" in info:
        final = info["final_info"]
        assert isinstance(final, dict)
        return final.get("is_success", [False] * slots).tolist()
    return info["is_success"].tolist() if "is_success" in info else [False] * slots


def rollout(env, policy, seeds, render):
    policy.reset()
    observation, info = env.reset(seed=seeds, options={"lerobot_new_rollout": True})
    render(env)
    steps, step, done = env.call("_max_episode_steps")[0], 0, np.zeros(env.num_envs, np.bool_)
    assert env.get_attr("task_description")
    assert env.get_attr("task")
    actions, rewards, successes, dones = [], [], [], []
    while not done.all() and step < steps:
        batch = preprocess(observation)
        batch["task"] = list(env.call("task_description"))
        action = policy.select_action(batch).to("cpu").numpy()
        assert action.ndim == 2
        observation, reward, terminated, truncated, info = env.step(action)
        render(env)
        successes.append(torch.tensor(successes_of(info, env.num_envs)))
        done = terminated | truncated | done
        if step + 1 == steps:
            done = np.ones_like(done)
        actions.append(torch.from_numpy(action))
        rewards.append(torch.from_numpy(reward))
        dones.append(torch.from_numpy(done))
        step += 1
    columns = {"action": actions, "reward": rewards, "success": successes, "done": dones}
    return {name: torch.stack(column, dim=1) for name, column in columns.items()}


def evaluate(env, policy, episodes, first_seed=0):
    """Success, summed reward and film of each episode, and the frame rate that films get."""
    found = {"success": [], "reward": [], "films": []}
    for batch in range(-(-episodes // env.num_envs)):
        frames = []
        seeds = list(range(first_seed + batch * env.num_envs, first_seed + (batch + 1) * env.num_envs))
        data = rollout(
            env, policy, seeds, lambda env, frames=frames: frames.append(np.stack(env.call("render")))
        )
        last = data["done"].int().argmax(dim=1)
        mask = torch.arange(data["done"].shape[1])[None] <= last[:, None] + 1
        found["success"] += (data["success"] * mask).any(1).tolist()
        found["reward"] += (data["reward"] * mask).sum(1).tolist()
        found["films"] += list(np.stack(frames, axis=1))
    return {key: value[:episodes] for key, value in found.items()}, env.unwrapped.metadata["render_fps"]


def alone(world, seed, **settings):
    """Success, reward and frames of one episode in a single environment."""
    env = gymnasium.make(GENERIC_ID, world=str(world), **settings)
    observation, info = env.reset(seed=seed)
    total, over, frames = 0.0, False, [observation["pixels"]]
    while not over:
        observation, reward, terminated, truncated, info = env.step(np.full(4, 0.5, np.float32))
        total, over = total + reward, terminated or truncated
        frames.append(observation["pixels"])
    return info["is_success"], total, np.stack(frames)


def make_vec(world, slots=SLOTS, **settings):
    settings = {"horizon": HORIZON, "render_mode": "rgb_array", **settings}
    return gymnasium.make_vec(GENERIC_ID, num_envs=slots, world=str(world), **settings)


@pytest.fixture(scope="module")
def singles(tiny_world):
    return [alone(tiny_world, seed, horizon=HORIZON) for seed in range(SLOTS)]


@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled"])
def test_the_evaluator_finds_what_single_episodes_give(tiny_world, singles, mode):
    env, policy = make_vec(tiny_world, autoreset_mode=mode), ConstantPolicy()
    found, fps = evaluate(env, policy, SLOTS)
    assert fps == env.unwrapped.world.fps
    assert set(policy.tasks[0]) <= set(env.unwrapped.world.instructions)
    assert found["success"] == [success for success, _, _ in singles]
    assert any(found["success"])
    assert not all(found["success"])
    for film, (_, _, frames) in zip(found["films"], singles, strict=True):
        assert_alike(film[0], frames[0])
    if mode == "disabled":  # else LeRobot counts the first reward of the next episode in a slot, too
        assert found["reward"] == [reward for _, reward, _ in singles]


def test_the_last_batch_may_be_cut(tiny_world, singles):
    found, _ = evaluate(make_vec(tiny_world, 2, autoreset_mode="disabled"), ConstantPolicy(), 3)
    assert found["success"] == [success for success, _, _ in singles[:3]]


def test_a_misspelt_option_is_still_an_error(tiny_world):
    env = make_vec(tiny_world, 2)
    with pytest.raises(ValueError, match="unknown reset option"):
        env.reset(options={"lerobot_new_rolout": True})
