"""Plan instead of learning: ``python examples/plan_in_imagination.py``. Half a minute of CPU per episode.

The planner sees pixels alone and thinks in its own copy of the world. ``--privileged`` lets it think from the
very state of the environment that it acts in, which no policy on a robot could.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from v2w_gym import WorldModelVectorEnv
from v2w_gym.policies.planner import Planner, PlannerConfig


def main() -> None:
    """Plan some episodes side by side; say which succeed, when, and what a decision costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--horizon", type=int, default=12, help="steps that a plan looks ahead")
    parser.add_argument("--steps", type=int, default=32, help="after which an episode has failed")
    parser.add_argument("--privileged", action="store_true")
    parser.add_argument("--seed", type=int, default=100)
    arguments = parser.parse_args()

    envs = WorldModelVectorEnv(
        arguments.episodes, arguments.world, autoreset_mode="disabled", terminate_on_success=False
    )
    config = PlannerConfig(arguments.world, samples=arguments.samples, horizon=arguments.horizon)
    snapshot = envs.snapshot if arguments.privileged else None
    planner = Planner(config, privileged=snapshot)
    observation, infos = envs.reset(seed=arguments.seed)
    planner.seed(range(arguments.episodes))
    planner.reset(list(infos["task"]), range(arguments.episodes))

    closed, seconds = np.zeros(arguments.episodes, np.int64), 0.0
    for step in range(1, arguments.steps + 1):
        before = time.process_time()
        actions = planner.act(observation)
        seconds += time.process_time() - before
        observation, _, _, _, infos = envs.step(actions)
        closed[infos["is_success"] & (closed == 0)] = step
        if closed.all():
            break
    decisions = -(-step // config.execute) * arguments.episodes
    print(f"{(closed > 0).sum()} of {len(closed)} succeed, at steps {closed.tolist()} (0: never)")
    print(f"{decisions} decisions of {seconds / decisions:.1f} seconds of CPU each")


if __name__ == "__main__":
    main()
