"""Is a judge of clips worth its verdicts? Its confusion matrix on labelled clips, and a red team.

Without arguments it checks a judge of its own on clips that it draws: a square that is to be pushed to the
right-hand edge. For a judge and recordings of yours: --judge NAME-OR-YAML --clips FOLDER.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from v2w_gym.data.episode import Episode
from v2w_gym.evaluation.judge_check import JudgeCheckConfig, check_judge, format_card
from v2w_gym.rewards.judge import Clip, Judgement
from v2w_gym.rewards.judges import open_judge


class Edge:
    """Success is a bright right-hand edge in the last frame, after a first frame without one."""

    threshold, hash = 0.5, "edge-1"

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        """One judgement per clip."""
        return [Judgement(self._probability(clip)) for clip in clips]

    def _probability(self, clip: Clip) -> float:
        if "right" not in clip.instruction:
            return 0.0
        before, after = (float(clip.frames[i, :, -4:].mean()) / 255 for i in (0, -1))
        return float(np.clip(4 * (after - before), 0, 1))


def draw(folder: Path, episodes: int) -> None:
    """Labelled clips of a square: half of them reach the edge, the others stop short of it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(episodes):
        reaches = i % 2 == 0
        places = np.linspace(rng.integers(0, 4), 24 if reaches else rng.integers(14, 19), 9).astype(int)
        frames = rng.integers(0, 40, (9, 32, 32, 3), dtype=np.uint8)
        top = rng.integers(4, 20)
        for frame, place in zip(frames, places, strict=True):
            frame[top : top + 8, place : place + 8] = 230
        success = np.arange(9) == (8 if reaches else -1)
        Episode(frames, None, success, "push it to the right", "drawn", i).save(folder / f"{i:03d}.npz")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", help="name or YAML; default: one that is written above")
    parser.add_argument("--clips", type=Path, help="folder of labelled clips; default: drawn ones")
    parser.add_argument("--out", type=Path, default=Path("runs/judge"))
    parser.add_argument("--world", help="not needed here")
    arguments = parser.parse_args()
    clips = arguments.clips or arguments.out / "clips"
    if arguments.clips is None:
        draw(clips, episodes=80)
    judge = Edge() if arguments.judge is None else open_judge(arguments.judge)
    report = check_judge(judge, JudgeCheckConfig(str(clips)), arguments.out)
    print(f"{format_card(report)}\n\nopen {arguments.out / 'judge_check.html'}")
