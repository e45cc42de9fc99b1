"""Two clients on one served world, each with a choice of futures: ``python examples/serve_and_play.py``.

The server is a process of its own, as ``v2w serve`` is on another machine. Its clients need no torch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import numpy.typing as npt

from v2w_gym.envs.remote import RemoteEnv

Frame = npt.NDArray[np.uint8]
PAST, FUTURE, CLIENTS = 3, 3, 2


@contextmanager
def served(world: str) -> Iterator[str]:
    """The address of a server that ends with the block."""
    command = [sys.executable, "-m", "v2w_gym", "serve", "--world", world, "--port", "0"]
    settings = ["--slots", str(CLIENTS), "terminate_on_success=false"]
    with subprocess.Popen([*command, *settings], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()  # WORLD is served at ws://127.0.0.1:PORT; stop with Ctrl-C
        if " at " not in line:
            raise SystemExit("the server did not start; it says why above")
        try:
            yield line.split(" at ")[1].split(";")[0]
        finally:
            server.terminate()


def play(url: str, seed: int) -> Frame:
    """A client: some steps, then two futures from there. Returns a row of the picture for each future."""
    rng = np.random.default_rng(seed)
    with RemoteEnv(url, obs_type="pixels") as env:
        size = env.action_space.sample().shape
        frames = [env.reset(seed=seed)[0]]
        frames += [env.step(action)[0] for action in rng.uniform(-1, 1, (PAST, *size))]
        kept = env.snapshot()  # bytes: good for this server, for one that is started later, and for a file
        futures = []
        for direction in rng.uniform(-1, 1, (2, *size)):
            env.restore(kept)
            futures.append([env.step(direction)[0] for _ in range(FUTURE)])
    return np.concatenate([np.concatenate([*frames, *future], axis=1) for future in futures])


def main() -> None:
    """Serve, play from two threads at once, save a picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--out", type=Path, default=Path("runs/serve_and_play.png"))
    arguments = parser.parse_args()
    with served(arguments.world) as url, ThreadPoolExecutor(CLIENTS) as threads:
        rows = list(threads.map(lambda seed: play(url, seed), range(CLIENTS)))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(arguments.out, np.concatenate(rows))
    print(f"two futures of each of {CLIENTS} clients are in {arguments.out}")


if __name__ == "__main__":
    main()
