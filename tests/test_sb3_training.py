"""Training with Stable-Baselines3 inside the world: looks, checkpoints, and going on after a kill."""

import json
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import VecMonitor

import v2w_gym
from v2w_gym.registration import GENERIC_ID
from v2w_gym.training import sb3_progress
from v2w_gym.training.sb3_progress import (
    Progress,
    look,
    newest_checkpoint,
    resume,
    save_checkpoint,
    split_starts,
)

SLOTS = 2


def small():
    return {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}


@pytest.fixture(scope="module")
def stage(tiny_world):
    """The training environment, and one that looks, with its starts."""
    train, held = split_starts(v2w_gym.World.open(tiny_world).starts(), 2)
    same = {"world": str(tiny_world), "obs_type": "pixels"}
    envs = gymnasium.make_vec(GENERIC_ID, num_envs=SLOTS, starts=train, **same)
    looking = gymnasium.make_vec(
        GENERIC_ID, num_envs=len(held), starts=held, autoreset_mode="disabled", **same
    )
    return VecMonitor(v2w_gym.SB3VecEnv(envs)), looking.unwrapped, held


def ppo(env):
    return PPO("CnnPolicy", env, n_steps=4, batch_size=8, n_epochs=1, policy_kwargs=small(), seed=3)


def sac(env):
    kept = {"buffer_size": 64, "learning_starts": 4, "batch_size": 4}
    return SAC("CnnPolicy", env, train_freq=2, gradient_steps=1, policy_kwargs=small(), seed=3, **kept)


def test_a_split_keeps_every_start_on_one_side(tiny_world):
    starts = v2w_gym.World.open(tiny_world).starts()
    for heldout in range(1, len(starts)):
        train, held = split_starts(starts, heldout)
        assert len(held) == heldout
        assert sorted(train.ids + held.ids) == sorted(starts.ids)
    for heldout in (0, len(starts)):
        with pytest.raises(ValueError, match=r"lie in 1\.\.3, got"):
            split_starts(starts, heldout)


def test_two_looks_at_one_policy_agree(stage):
    env, looking, held = stage
    model = ppo(env)
    found = look(model, looking, held)
    assert found == look(model, looking, held)
    assert 0 <= found.look_success <= 1


@pytest.mark.parametrize("make", [ppo, pytest.param(sac, marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_with_its_counters_and_its_memory(stage, tmp_path, make):
    env, looking, held = stage

    def progress():
        return Progress(tmp_path, looking, held, every=8)

    model = make(env)
    model.learn(16, callback=progress())
    kept = newest_checkpoint(tmp_path)
    assert kept.name == "0000000016"
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]  # older ones are gone
    again = resume(type(model), kept, env, seed=3, device="cpu")
    for name in ("num_timesteps", "_n_updates", "_episode_num", "looks"):
        assert getattr(again, name) == getattr(model, name), name
    mine, other = (m.policy.state_dict() for m in (again, model))
    assert all(torch.equal(mine[key], other[key]) for key in other)
    moments = [m.policy.optimizer if make is ppo else m.critic.optimizer for m in (again, model)]
    steps = [next(iter(o.state_dict()["state"].values()))["step"] for o in moments]
    assert steps[0] == steps[1] > 0
    if make is sac:
        size = model.replay_buffer.pos
        assert again.replay_buffer.pos == size == 16 // SLOTS
        for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
            both = [getattr(m.replay_buffer, name)[:size] for m in (again, model)]
            np.testing.assert_array_equal(*both)
    assert again.env.unwrapped._seeds != [3, 4]  # not the first episodes once more
    again.learn(24 - again.num_timesteps, callback=progress(), reset_num_timesteps=False)
    assert again.num_timesteps == 24
    steps = [line["update"] for line in read(tmp_path)]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, 24)
    best = max(line["look_success"] for line in read(tmp_path))
    assert type(model).load(tmp_path / "best.zip").looks["success"] == best
    assert (tmp_path / "progress.png").stat().st_size > 0


def read(out):
    return [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("broken", ["save", "rename"])
def test_a_kill_while_saving_leaves_the_checkpoint_before(stage, tmp_path, monkeypatch, broken):
    env, *_ = stage
    model = ppo(env)
    before = save_checkpoint(model, tmp_path)
    model.num_timesteps = 8

    def killed(*_, **__):
        raise KeyboardInterrupt

    target = (PPO, "save") if broken == "save" else (sb3_progress.os, "rename")
    with monkeypatch.context() as patch:
        patch.setattr(*target, killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(model, tmp_path)
    assert newest_checkpoint(tmp_path) == before
    assert resume(PPO, before, env, seed=3, device="cpu").num_timesteps == 0
    assert newest_checkpoint(tmp_path / "nowhere") is None
    after = save_checkpoint(model, tmp_path)
    assert newest_checkpoint(tmp_path) == after
    assert list(after.parent.iterdir()) == [after]  # what was left half written is gone, too


def test_it_stops_where_nothing_gets_better(stage, tmp_path):
    env, looking, held = stage
    model = ppo(env)
    model.looks = {"success": 1.0, "steps": 0, "since": 0}  # cannot be surpassed
    progress = Progress(tmp_path, looking, held, every=8, patience=2)
    model.learn(800, callback=progress)
    assert progress.stopped == "no better look in 2"
    assert model.num_timesteps < 40
    assert newest_checkpoint(tmp_path).name == "0000000008"  # with the counters of the look that ended it


@pytest.mark.slow
def test_a_side_of_the_race_that_dies_ends_it():
    root = Path(__file__).parents[1]
    command = [sys.executable, "benchmarks/imagination_or_simulator.py", "--sampler", "nonsense"]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert "a side of the race has died" in ended.stderr
    assert "no sampler preset 'nonsense'" in ended.stderr


@pytest.mark.slow
@pytest.mark.reality
def test_imagination_and_simulator_are_timed_side_by_side(tmp_path):
    pytest.importorskip("metaworld")
    root = Path(__file__).parents[1]
    command = [sys.executable, "benchmarks/imagination_or_simulator.py", "--rounds", "1", "--json"]
    subprocess.run([*command, str(tmp_path / "figures.json")], cwd=root, check=True, timeout=600)
    figures = json.loads((tmp_path / "figures.json").read_text())
    for side in ("imagination", "simulator"):
        assert 0 < figures[f"{side}_steps_per_second"] < figures[f"{side}_world_steps_per_second"]
