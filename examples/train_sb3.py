"""Train a policy inside the world model with Stable-Baselines3: ``python examples/train_sb3.py``.

Episodes are imagined side by side. Held-out starts say how good the policy is in imagination; what it is
worth in reality is said by the command that is printed at the end.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecMonitor

import v2w_gym
from v2w_gym.training.sb3_progress import Progress, newest_checkpoint, resume, split_starts

KINDS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "sac": SAC}
FIXED = ("world", "algorithm", "envs", "seed", "sampler", "reward", "heldout", "buffer")
"""Settings that a resumed run must share with its beginning."""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    add("--algorithm", choices=KINDS, default="ppo")
    add("--steps", type=int, default=50_000, help="of all episodes together")
    add("--envs", type=int, default=16, help="episodes imagined side by side")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("runs/sb3"), help="folder")
    add("--sampler", help="one of the world's presets, e.g. fast")
    add("--reward", choices=("sparse", "dense"), default="sparse")
    add("--heldout", type=int, default=16, help="starts that are only looked at")
    add("--every", type=int, default=4096, help="steps between two looks, each of which leaves a checkpoint")
    add("--patience", type=int, default=0, help="looks without a better one that stop training; 0: none do")
    add("--stop-on-alarm", action="store_true", help="stop where imagination seems to be exploited")
    add("--buffer", type=int, default=20_000, help="transitions that SAC keeps, 2 images each")
    add("--device", default="cpu")
    add("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    return parser.parse_args()


def make(given: argparse.Namespace) -> tuple[VecMonitor, Any, v2w_gym.StartContexts]:
    """The training environment, and one that only looks, with its starts."""
    train, held = split_starts(v2w_gym.World.open(given.world).starts(), given.heldout)
    same = {"world": given.world, "sampler": given.sampler, "device": given.device, "obs_type": "pixels"}
    # where every step is paid, an end by success would make it pay to stay just below success
    rewarded = {"reward": given.reward, "terminate_on_success": given.reward == "sparse"}
    make_vec, id = gym.make_vec, "v2w_gym:Vid2World-v0"
    envs = make_vec(id, num_envs=given.envs, starts=train, **same, **rewarded)
    looking = make_vec(id, num_envs=len(held), starts=held, autoreset_mode="disabled", **same)
    return VecMonitor(v2w_gym.SB3VecEnv(envs)), looking.unwrapped, held


def begin(given: argparse.Namespace, env: VecMonitor) -> BaseAlgorithm:
    """A new model."""
    same: dict[str, Any] = {"seed": given.seed, "device": given.device, "learning_rate": 3e-4}
    if given.algorithm == "ppo":
        rollout = 32 * given.envs
        return PPO("CnnPolicy", env, n_steps=32, batch_size=min(256, rollout), n_epochs=4, **same)
    images = 2 * given.buffer * env.observation_space.shape[0] * env.observation_space.shape[1] * 3
    print(f"the replay buffer will take {images / 1e9:.2f} GB, and each checkpoint as much on the disk")
    # optimize_memory_usage would halve it and count every failed episode as an end of the world: see docs
    updates = max(1, given.envs // 4)
    start = min(1000, given.buffer)
    kept = {"buffer_size": given.buffer, "learning_starts": start, "batch_size": 64}
    return SAC("CnnPolicy", env, train_freq=1, gradient_steps=updates, **kept, **same)


def check(given: argparse.Namespace) -> Path | None:
    """The checkpoint to go on from, if any; never one of a run with other settings."""
    found, file = newest_checkpoint(given.out), given.out / "settings.json"
    settings = {name: getattr(given, name) for name in FIXED}
    if found is not None and not given.resume:
        raise SystemExit(f"{given.out} holds a run; go on with --resume, or take another --out")
    if given.resume and found is None:
        raise SystemExit(f"{given.out} holds no checkpoint; leave --resume out")
    if found is not None and (before := json.loads(file.read_text())) != settings:
        raise SystemExit(f"{given.out} was begun with {before}, got {settings}; give the same")
    given.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=1) + "\n")
    return found


def main() -> None:
    """Train, or go on training."""
    given = parse()
    checkpoint = check(given)
    env, looking, held = make(given)
    if checkpoint is None:
        model = begin(given, env)
    else:
        model = resume(KINDS[given.algorithm], checkpoint, env, given.seed, given.device)
    progress = Progress(
        given.out,
        looking,
        held,
        every=given.every,
        patience=given.patience,
        stop_on_alarm=given.stop_on_alarm,
    )
    left = given.steps - model.num_timesteps
    if left > 0:
        model.learn(left, callback=progress, reset_num_timesteps=checkpoint is None)
    env.close()
    best = given.out / "best.zip"
    print(f"{progress.stopped or 'done'} after {model.num_timesteps} steps; curve: {given.out}/progress.png")
    print(f"rank it: v2w rank --policy sb3:{best} --policy converged --policy random")


if __name__ == "__main__":
    main()
