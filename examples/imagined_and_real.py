"""Film policies from the same start in reality and in imagination: ``python examples/imagined_and_real.py``.

Makes the README's moving picture. Needs Meta-World: ``make setup``. Takes a few seconds per policy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from v2w_gym.data.episode import Episode
from v2w_gym.data.metaworld import MetaWorldTask
from v2w_gym.data.reality import run_episode, start_id
from v2w_gym.evaluation import canvas
from v2w_gym.evaluation.canvas import Picture
from v2w_gym.policies import registry

SIDE, LEFT, TOP = 128, 92, 26


def imagined_episode(policy: Any, world: str, seed: int) -> Episode:
    """``policy`` in imagination, from the start that ``seed`` places in reality."""
    env = gym.make("v2w_gym:Vid2World-v0", world=world, terminate_on_success=False)
    observation, info = env.reset(seed=seed, options={"start": start_id(seed)})
    for method, arguments in (("seed", ([seed],)), ("reset", ([info["task"]], [0]))):
        if hasattr(policy, method):
            getattr(policy, method)(*arguments)
    frames, actions, success, truncated = [observation["pixels"]], [], [False], False
    while not truncated:
        action = np.asarray(policy.act({"pixels": frames[-1][None]}), dtype=np.float32)[0]
        observation, _, _, truncated, info = env.step(action)
        frames.append(observation["pixels"])
        actions.append(action)
        success.append(info["is_success"])
    env.close()
    return Episode(np.stack(frames), np.stack(actions), np.array(success), "", "imagined", seed)


def picture(columns: dict[str, tuple[Episode, Episode]], index: int) -> Picture:
    """Frame ``index``: reality above, imagination below, one column per policy; green once it is closed."""
    page = canvas.blank(TOP + 2 * (SIDE + 12) + 4, LEFT + len(columns) * (SIDE + 14))
    for row, word in enumerate(("reality", "imagined")):
        canvas.write(page, word, x=8, y=TOP + row * (SIDE + 12) + SIDE // 2 - 4, size=15, bold=True)
    for column, (name, pair) in enumerate(columns.items()):
        x = LEFT + column * (SIDE + 14)
        canvas.write(page, name, x=x + 2, y=6, size=14, bold=True, width=SIDE + 8)
        for row, episode in enumerate(pair):
            closed = bool(episode.success[: index + 1].any())
            tile = canvas.framed(episode.frames[index], SIDE, canvas.SUCCESS if closed else canvas.RUNNING, 4)
            y = TOP + row * (SIDE + 12)
            page[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return page


def save_gif(path: Path, film: list[Picture], milliseconds: int = 125) -> None:
    """Write a looping GIF with one palette for all frames, so that only what moves takes room."""
    palette = Image.fromarray(np.concatenate(film[::4])).quantize(192, dither=Image.Dither.NONE)
    frames = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in film]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)


def main() -> None:
    """Parse the command line and write the film."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", action="append", help="repeat for more; default: four shipped ones")
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("docs/imagined_and_real.gif"))
    arguments = parser.parse_args()
    reality, columns = MetaWorldTask(), {}
    for name in arguments.policy or ["converged", "one-demo", "half-speed", "random"]:
        real = run_episode(registry.resolve(name), reality, arguments.seed)
        columns[name] = (real, imagined_episode(registry.resolve(name), arguments.world, arguments.seed))
    reality.close()
    last = min(len(episode) for pair in columns.values() for episode in pair) - 1
    film = [picture(columns, i) for i in [*range(last + 1), *[last] * 8]]
    save_gif(arguments.out, film)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
