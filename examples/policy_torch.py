"""A torch module as a policy, in memory and from a file: ``python examples/policy_torch.py``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from v2w_gym import World, evaluation, policies


def network(actions: int) -> nn.Module:
    """An untrained policy: images ``(b, 3, h, w)`` in -1..1 to actions ``(b, a)`` in -1..1."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(128, actions), nn.Tanh())


def main() -> None:
    """Export the module, open the file again, and rank both: they are the same policy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/policy.pt2"))
    arguments = parser.parse_args()

    config = World.open(arguments.world).config
    module = network(len(config.action.names)).eval()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    example = (torch.zeros(2, 3, *config.frame_size),)  # two rows, of which AUTO makes any number
    exported = torch.export.export(module, example, dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(exported, arguments.out)

    contenders = {
        "in memory": policies.from_module(module, mean=0.5, std=0.5),
        "from the file": policies.resolve(f"torch:{arguments.out},mean=0.5,std=0.5"),
    }
    summary = evaluation.rank(arguments.world, contenders, episodes=arguments.episodes, seed=0)
    print(evaluation.format_table(summary))
    print(f"\nv2w rank --policy torch:{arguments.out},mean=0.5,std=0.5 does the same")


if __name__ == "__main__":
    main()
