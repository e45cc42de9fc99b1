"""Rank a policy of your own against shipped ones: ``python examples/rank_my_policy.py``.

``v2w rank --policy examples/rank_my_policy.py:Ahead --policy converged`` does the same from the command line.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym import evaluation, policies


class Ahead:
    """Pushes ahead at full speed and steers to the side of the picture that is brighter."""

    def act(self, observation: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Actions ``(b, 4)`` in -1..1 for ``observation["pixels"]``, uint8 ``(b, h, w, 3)``."""
        left, right = np.array_split(observation["pixels"], 2, axis=2)
        actions = np.zeros((len(left), 4), np.float32)
        actions[:, 0] = np.sign(right.mean(axis=(1, 2, 3)) - left.mean(axis=(1, 2, 3)))
        actions[:, 1] = 1.0
        return actions


def main() -> None:
    """Rank, print the table, leave pictures and numbers in the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--against", nargs="+", default=policies.names(), help="shipped names or module:attr")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/rank-my-policy"))
    arguments = parser.parse_args()

    contenders = {name: policies.resolve(name) for name in arguments.against} | {"ahead": Ahead()}
    summary = evaluation.rank(
        arguments.world, contenders, episodes=arguments.episodes, seed=0, out=arguments.out
    )
    print(evaluation.format_table(summary))
    print(f"\npictures and numbers are in {arguments.out}")


if __name__ == "__main__":
    main()
