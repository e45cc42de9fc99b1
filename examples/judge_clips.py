"""Let a judge on this machine look at clips: videos of yours, or two imagined episodes.

python examples/judge_clips.py                          # offline: the detector of the world judges
python examples/judge_clips.py --judge smolvlm          # a small vision-language model; downloads it once
python examples/judge_clips.py --judge my_judge.yaml --instruction "open the drawer" a.mp4 b.mp4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
import imageio.v3 as iio
import numpy as np

from v2w_gym.rewards.frame_judge import FrameJudge, FrameJudgeConfig
from v2w_gym.rewards.judge import Clip, ClipJudge
from v2w_gym.rewards.judges import open_judge


def imagine(world: str, ahead: bool, instruction: str) -> Clip:
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
    fps = float(env.metadata["render_fps"])
    env.close()
    return Clip(np.stack(frames), instruction, fps)


def read(path: Path, instruction: str) -> Clip:
    """A video file."""
    return Clip(np.asarray(iio.imread(path)), instruction, float(iio.immeta(path)["fps"]))


def main() -> None:
    """Open the judge, show it the clips, print what it says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", nargs="*", type=Path, help="default: two imagined episodes")
    parser.add_argument("--judge", help="name or yaml; default: the world's own detector")
    parser.add_argument("--instruction", default="close the drawer")
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id or folder")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    judge: ClipJudge
    if arguments.judge:
        judge = open_judge(arguments.judge, device=arguments.device)
    else:
        judge = FrameJudge.from_config(FrameJudgeConfig(arguments.world), device=arguments.device)
    clips = {path.name: read(path, arguments.instruction) for path in arguments.videos}
    if not clips:
        clips = {
            name: imagine(arguments.world, name == "ahead", arguments.instruction)
            for name in ("ahead", "still")
        }
    for name, found in zip(clips, judge.judge(list(clips.values())), strict=True):
        told = "" if found.probability is None else f", probability {found.probability:.3f}"
        told += "" if found.progress is None else f", progress {found.progress:.2f}"
        print(
            f"{name}: {found.verdict(judge.threshold)}{told}" + (f" ({found.reason})" if found.reason else "")
        )
    print(f"judge {judge.hash}, success from {judge.threshold:g} on")


if __name__ == "__main__":
    main()
