"""The world learns from the play: fine-tuning from its own weights, and the folder of the new world."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from v2w_gym.config import from_dict, load
from v2w_gym.envs.world import World, write_hashes
from v2w_gym.training.assemble import AssembleConfig, assemble
from v2w_gym.training.credibility import FitConfig, fit
from v2w_gym.training.improving.config import ImproveConfig
from v2w_gym.training.world_model import VideoConfig, finetune
from v2w_gym.world_model.diffusion import ScheduleConfig
from v2w_gym.world_model.loading import SCHEDULE
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.unet import VideoUNet


def learn(config: ImproveConfig, world: World, plays: Sequence[Path], number: int, out: Path) -> bool:
    """Fine-tune the network of ``world`` into ``out/unet``, or go on with it.

    Args:
        config: settings.
        world: whose weights to begin with.
        plays: folders of all play to learn from, this round's and those before.
        number: of the round.
        out: folder of checkpoint and curve.

    Returns:
        Whether all steps are done; False if ``finetune.loop.max_minutes`` stopped them before.
    """
    how, unet = config.finetune, world.folder / "unet"
    sizes = {k: v for k, v in VideoUNet.load_config(unet).items() if not k.startswith("_")}
    video = VideoConfig(
        # a folder that is named several times is drawn from as often
        data=(*config.data, *(str(play) for play in plays for _ in range(how.weight))),
        heldout=config.heldout,
        codec=config.codec or str(world.folder / "codec"),
        unet=sizes,
        schedule=load(ScheduleConfig, world.folder / SCHEDULE),
        loop=replace(how.loop, seed=config.seed + number),
        init=str(unet),
        action_dropout=how.action_dropout,
        terminal_probability=how.terminal_probability,
        history_level=how.history_level,
        own_history=how.own_history,
        own_reach=how.own_reach,
    )
    return finetune(video, out)


def build(config: ImproveConfig, world: World, unet: Path, plays: Sequence[Path], out: Path) -> None:
    """Write the new world: all of ``world`` but the network, and the credibility if it can be taught anew.

    Args:
        config: settings.
        world: the world before.
        unet: the fine-tuned network.
        plays: what it has learned from.
        out: the folder; a kill leaves none.
    """
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    assemble(_parts(world, unet), partial)
    if config.calibration is not None:
        data = (*config.data, *map(str, plays))
        taught = fit(World.open(partial), FitConfig(data, config.calibration, seed=config.seed))
        taught.save_pretrained(partial / "credibility")
        write_hashes(partial)
    os.replace(partial, out)


def _parts(world: World, unet: Path) -> AssembleConfig:
    """What to put together: ``world`` with another network, as its next version."""
    said, folder = world.config, world.folder
    optional: dict[str, Any] = {
        "detector_weights": folder / "detector",
        "starts": folder / "starts",
        "reality": folder / "reality.json",
    }
    return AssembleConfig(
        codec=str(folder / "codec"),
        unet=str(unet),
        name=said.name,
        version=said.version + 1,
        frame_size=said.frame_size,
        fps=said.fps,
        horizon=said.horizon,
        action=said.action,
        instructions=said.instructions,
        detector=said.detector,
        framing=said.framing,
        sampler=from_dict(SamplerConfig, said.sampler),
        samplers=said.samplers,
        **{name: str(path) for name, path in optional.items() if path.exists()},
    )


def write_card(world: Path, told: Sequence[str]) -> None:
    """Write ``README.md`` of a new world.

    Args:
        world: the folder.
        told: lines on how it was made and what was found.
    """
    opened = World.open(world)
    head = f"# World `{opened.config.name}`, version {opened.config.version}"
    (world / "README.md").write_text("\n".join([head, "", *told]) + "\n")
