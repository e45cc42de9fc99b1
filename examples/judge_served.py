"""Let a served vision-language model judge two imagined episodes: one pushes ahead, one stays still.

    python examples/judge_served.py                                        # offline, see below
    python examples/judge_served.py --url http://127.0.0.1:11434/v1 --model qwen2.5vl:7b
    python examples/judge_served.py --url https://api.openai.com/v1 --model gpt-4o --key-variable KEY

Without ``--url`` a stand-in on this machine answers in place of a model. It speaks the same protocol and
looks at the pictures, but all that it can tell is whether anything moved: its verdicts mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import yaml

from v2w_gym.rewards.judge import Clip
from v2w_gym.rewards.judges import open_judge


def imagine(world: str, ahead: bool) -> Clip:
    """One episode of always the same action."""
    env = gym.make("v2w_gym:Vid2World-v0", world=world)
    observation, _ = env.reset(seed=0)
    action = np.zeros(env.action_space.shape or (), np.float32)
    action[1] = 1.0 if ahead else 0.0  # dy of the hand
    frames, over = [observation["pixels"]], False
    while not over:
        observation, _, terminated, truncated, _ = env.step(action)
        frames.append(observation["pixels"])
        over = terminated or truncated
    env.close()
    return Clip(np.stack(frames), "close the drawer")


@contextlib.contextmanager
def stand_in() -> Any:
    """Address of a server that stands in for a model."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    server = importlib.import_module("openai_server")

    def look(asked: Any) -> Any:
        first, *_, last = [picture.astype(float) for picture in asked.images]
        moved = abs(last - first).mean()
        return server.completion(
            f"On average a pixel changed by {moved:.1f}.\nAnswer: {'yes' if moved > 8 else 'no'}"
        )

    with server.OpenAIServer(look) as running:
        print("no --url: a stand-in for a model answers, which can only tell whether anything moved")
        yield running.url


def main() -> None:
    """Imagine, write the judge's file, judge twice."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--url", help="base URL of an OpenAI-compatible endpoint; default: a stand-in")
    parser.add_argument("--model", default="stand-in", help="its name at the endpoint")
    parser.add_argument("--key-variable", help="environment variable that holds the API key")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/judge_served"), help="folder of judge and replies"
    )
    arguments = parser.parse_args()

    clips = {name: imagine(arguments.world, name == "ahead") for name in ("ahead", "still")}
    with contextlib.nullcontext(arguments.url) if arguments.url else stand_in() as url:
        file = arguments.out / "judge.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        settings = {
            "kind": "served_vlm",
            "model": arguments.model,
            "endpoint": {"base_url": url, "key_variable": arguments.key_variable},
            "prompt": "yes_no_reasoned",
            "frames": {"rule": "even", "count": 4, "size": 224},
            "votes": {"count": 3},
            "cache": str(arguments.out / "replies"),
        }
        file.write_text(yaml.safe_dump(settings, sort_keys=False))
        judge = open_judge(file)
        for _ in range(2):  # the second time, all replies come from the disk
            for name, found in zip(clips, judge.judge(list(clips.values())), strict=True):
                print(f"{name}: {found.verdict(judge.threshold)}, votes {found.votes}, {found.tokens} tokens")
                print(f"    {found.reason}")
    print(f"the judge is {file}")


if __name__ == "__main__":
    main()
