"""Functions as policies: ``python examples/policy_callable.py``. One sees a single slot, one sees all."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym import evaluation, policies


def towards_the_light(observation: Mapping[str, Any], instruction: str) -> list[float]:
    """An action ``(4,)`` for one slot: ``observation["pixels"]`` is uint8 ``(h, w, 3)``."""
    left, right = np.array_split(observation["pixels"], 2, axis=1)
    speed = 1.0 if "close" in instruction else -1.0
    return [float(np.sign(right.mean() - left.mean())), speed, 0.0, 0.0]


def ahead(observation: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Actions ``(b, 4)`` for all slots: ``observation["pixels"]`` is uint8 ``(b, h, w, 3)``."""
    return np.tile([0.0, 1.0, 0.0, 0.0], (len(observation["pixels"]), 1))


def main() -> None:
    """Rank both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--episodes", type=int, default=4)
    arguments = parser.parse_args()

    contenders = {
        "towards the light": policies.from_callable(towards_the_light, batched=False, instructed=True),
        "ahead": policies.from_callable(ahead, batched=True),
    }
    summary = evaluation.rank(arguments.world, contenders, episodes=arguments.episodes, seed=0)
    print(evaluation.format_table(summary))


if __name__ == "__main__":
    main()
