"""What the released models cost at full size, with random weights in their layout.

``python benchmarks/released.py --folder DIR`` writes a checkpoint of the released size (12 GB), converts it,
loads it in bf16 and imagines steps; each stage runs in a process of its own, whose peak memory is printed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
import yaml

from v2w_gym.world_model.released.convert import convert
from v2w_gym.world_model.released.presets import shipped
from v2w_gym.world_model.released.random_weights import write_random
from v2w_gym.world_model.vid2world import Vid2World

Figures = dict[str, float]


def write(folder: Path) -> Figures:
    write_random(folder / "model.ckpt", yaml.safe_load(shipped("rt1").read_text()), dtype=torch.bfloat16)
    return {"checkpoint_gb": (folder / "model.ckpt").stat().st_size / 1e9}


def turn(folder: Path) -> Figures:
    convert(folder / "model.ckpt", folder / "world", domain="rt1")
    return {"converted_gb": sum(f.stat().st_size for f in (folder / "world").rglob("*") if f.is_file()) / 1e9}


def load(folder: Path, sampler: dict[str, float]) -> tuple[Vid2World, float]:
    begin = time.perf_counter()
    model = Vid2World.from_pretrained(folder / "world", sampler=sampler, dtype=torch.bfloat16)
    return model, time.perf_counter() - begin


def imagine(folder: Path, steps: int = 2) -> Figures:
    model, seconds = load(folder, {"steps": steps})
    figures = {"load_s": seconds, "million_parameters": sum(p.numel() for p in model.unet.parameters()) / 1e6}
    frames = np.random.default_rng(0).integers(0, 256, (1, 1, *model.frame_size, 3), dtype=np.uint8)
    begin = time.perf_counter()
    state = model.init(frames, np.zeros((1, 0, model.action_dim)), [0])
    figures["begin_episode_s"] = time.perf_counter() - begin
    begin = time.perf_counter()
    state = model.step(state, np.zeros((1, model.action_dim)))
    figures[f"step_{steps}_denoising_steps_s"] = time.perf_counter() - begin
    begin = time.perf_counter()
    assert model.decode(state.latent).shape == (1, *model.frame_size, 3)
    assert torch.isfinite(state.latent).all()
    figures["decode_s"] = time.perf_counter() - begin
    return figures


def _measured(stage: Callable[[Path], Figures], folder: Path, sender: Connection[Figures, None]) -> None:
    begin = time.perf_counter()
    figures = stage(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    total = {f"{stage.__name__}_s": time.perf_counter() - begin, f"{stage.__name__}_peak_gib": peak}
    sender.send({**total, **figures})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where to put 8 GB for the while")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    figures: Figures = {"threads": torch.get_num_threads()}
    for stage in (write, turn, imagine):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_measured, args=(stage, arguments.folder, sender))
        process.start()
        sender.close()
        try:
            figures |= receiver.recv()
        except EOFError:
            raise SystemExit(f"the stage {stage.__name__} died; see above") from None
        process.join()
        print(json.dumps({key: round(value, 2) for key, value in figures.items()}, indent=1), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
