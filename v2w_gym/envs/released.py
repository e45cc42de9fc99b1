"""Released checkpoints as worlds: the facts that the weights do not hold, and where the weights come from."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from v2w_gym import config as configuration
from v2w_gym.data.starts import Context, StartContexts
from v2w_gym.envs.domains import DOMAINS
from v2w_gym.envs.integrity import WORLD_FILE, write_hashes
from v2w_gym.envs.world import DetectorSpec, World, WorldConfig
from v2w_gym.registration import RELEASED_WORLDS, released_domain
from v2w_gym.world_model.released.presets import PRESETS, domain_of, shipped
from v2w_gym.world_model.released.sizes import read_sizes
from v2w_gym.world_model.released.source import located

TINY = "tiny-random"


@dataclass(frozen=True)
class Facts:
    """What an environment of a domain needs beside its actions and frames.

    Attributes:
        horizon: steps of an episode, as many as the paper imagines there.
        instruction: the task.
    """

    horizon: int
    instruction: str


FACTS: Mapping[str, Facts] = {
    "rt1": Facts(40, "close drawer"),
    "csgo": Facts(100, "play Counter-Strike on the map dust2"),
    "recon": Facts(16, "drive on"),
}

_CARD = """# Vid2World, {title}

A causal video-diffusion world model (arXiv 2505.14357), converted from the weights that its authors released.
{hub}

| | |
|---|---|
| frames | {h}x{w} RGB, the picture with black bars; {fps:g} per second in the recordings |
| action | {actions} components: {names} |
| sampler | {steps} denoising steps, guidance {guidance}, window of {window} frames, history {history} |
| success detector | none: rewards are 0.0 and `info["judged"]` is False; give `detector=...` |
| starts | none: give `starts=...`, or frames at `reset` |

Licence: the authors' code bears an MIT badge; the weights are reported to be Apache-2.0, which was not
verified. Ask the repository that the file came from.

Limits: the network pools statistics over all frames of its window, so every step computes the whole window
anew at each denoising step. Its success is not measured: no table of real results comes with it.

To use it: `gym.make("v2w_gym:{id}", weights="this folder", starts="clip.mp4")`
"""


def open_released(env_id: str, weights: str | Path | None, preset: str | None) -> World:
    """The world of a released id.

    Args:
        env_id: with or without ``v2w_gym:``.
        weights: checkpoint file, folder or hub id; None takes what lies in the hub's cache already.
        preset: ``"tiny-random"``, or None.

    Raises:
        FileNotFoundError: there are no weights; says how to get them. Nothing is ever downloaded unasked.
        ValueError: damaged or foreign weights, those of another domain, or an unknown preset.
    """
    domain = released_domain(env_id)
    assert domain is not None
    if preset is not None:
        if preset != TINY or weights is not None:
            given = f'preset must be "{TINY}", without weights, got {preset!r} and weights {weights!r}'
            raise ValueError(given)
        return _tiny(domain)
    if weights is not None:
        folder = located(weights, domain=domain)
    else:
        try:
            folder = located(PRESETS[domain].hub, domain=domain, local_only=True)
        except FileNotFoundError as error:
            raise FileNotFoundError(no_weights(env_id.removeprefix("v2w_gym:"))) from error
    return World(folder, world_config(folder))


def no_weights(env_id: str) -> str:
    """What to tell somebody who opens a released id without weights."""
    preset = PRESETS[RELEASED_WORLDS[env_id]]
    others = f" (or of an ablation: {', '.join(preset.others)})" if preset.others else ""
    return (
        f"{env_id} has no weights on this machine. Its authors released them as {preset.hub} on the Hugging "
        f"Face hub{others}, about 10 GB. Fetch them: `hf download {preset.hub}`, then "
        f'gym.make("v2w_gym:{env_id}"), or gym.make("v2w_gym:{env_id}", weights="path") for a file, a folder '
        f"or a hub id; the first use converts them, or do it by hand: `v2w convert FILE FOLDER`. For trying "
        f'code with random weights: gym.make("v2w_gym:{env_id}", preset="{TINY}")'
    )


def world_config(folder: Path) -> WorldConfig:
    """``world.json`` of a converted folder, completed where it holds the model's part only.

    Raises:
        ValueError: a damaged ``world.json``, or actions of no known domain.
    """
    where = folder / WORLD_FILE
    try:
        values = json.loads(where.read_text())
    except ValueError as error:
        raise ValueError(f"{where} is damaged ({error}); convert the checkpoint again") from error
    if "action" not in values:
        values = _completed(folder, values)
    if "samplers" not in values and (domain := domain_in(folder)) is not None:
        values = {**values, "samplers": read_sizes(shipped(domain)).samplers}
    return configuration.from_dict(WorldConfig, values, where=str(where))


def _completed(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    width = _action_width(folder)
    name = domain_of(width)
    if name is None:
        raise ValueError(
            f"{folder} reads actions of {width} components, which no known domain has; it can be used as a "
            "model (Vid2World.from_pretrained), or as a world once its world.json says what they mean"
        )
    domain, facts = DOMAINS[name], FACTS[name]
    config = WorldConfig(
        name=f"vid2world-{name}",
        version=1,
        frame_size=tuple(values["frame_size"]),
        fps=domain.fps,
        horizon=facts.horizon,
        window=values["window"],
        action=domain.action,
        instructions=(facts.instruction,),
        detector=DetectorSpec("none"),
        action_bound=values["action_bound"],
        framing=domain.framing if domain.framing.frame_size == tuple(values["frame_size"]) else None,
    )
    return {**configuration.to_dict(config), "samplers": read_sizes(shipped(name)).samplers, **values}


def _action_width(folder: Path) -> int:
    return int(json.loads((folder / "unet" / "config.json").read_text())["action_dim"])


def domain_in(folder: Path) -> str | None:
    """The domain of a converted folder, read off the width of its actions; None where there is none."""
    return domain_of(_action_width(folder))


def complete(folder: str | Path) -> WorldConfig:
    """Make a converted folder a world: the rest of ``world.json``, a card, and the hashes of all files.

    Raises:
        ValueError: as ``world_config``.
    """
    folder = Path(folder)
    config = world_config(folder)
    unfinished = folder / f".{WORLD_FILE}"
    unfinished.write_text(json.dumps(configuration.to_dict(config), indent=2) + "\n")
    os.replace(unfinished, folder / WORLD_FILE)
    (folder / "README.md").write_text(_card(config))
    write_hashes(folder)
    return config


def _card(config: WorldConfig) -> str:
    domain = domain_of(len(config.action.names))
    assert domain is not None  # else the world could not have been completed
    sampler, preset, (h, w) = config.sampler, PRESETS[domain], config.frame_size
    others = f" Ablations of the same layout: {', '.join(preset.others)}." if preset.others else ""
    return _CARD.format(
        title=preset.title,
        hub=f"They lie on the Hugging Face hub as {preset.hub}.{others}",
        h=h,
        w=w,
        fps=config.fps,
        actions=len(config.action.names),
        names=", ".join(config.action.names),
        steps=sampler["steps"],
        guidance=sampler["guidance_scale"],
        window=sampler["window"] or config.window,
        history=sampler["history"],
        id=next(env_id for env_id, name in RELEASED_WORLDS.items() if name == domain),
    )


def _tiny(domain: str) -> World:
    """A world of the domain with random weights, made in the cache by the way that real ones take."""
    from v2w_gym.world_model.released.random_weights import tiny_checkpoint

    warnings.warn(
        f'preset="{TINY}": this model has few channels and random weights; its frames are noise, and nothing '
        "can be learned from it but whether code runs",
        stacklevel=2,
    )
    checkpoint, sizes = tiny_checkpoint(domain)
    folder = located(checkpoint, sizes, domain)
    if not (folder / "starts").is_dir():
        _write_starts(folder, domain)
    return World(folder, replace(world_config(folder), preset=TINY))


def _write_starts(folder: Path, domain: str) -> None:
    """Two starts of one coarse random picture each."""
    framing, dim = DOMAINS[domain].framing, len(DOMAINS[domain].action.names)
    rng = np.random.default_rng(0)
    contexts = []
    for i in range(2):
        picture = rng.integers(0, 256, (1, 8, 8, 3), np.uint8).repeat(32, axis=1).repeat(32, axis=2)
        contexts.append(Context(f"random-{i}", framing.fit(picture), np.zeros((0, dim), np.float32)))
    unfinished = Path(tempfile.mkdtemp(dir=folder, prefix=".starts"))
    StartContexts(contexts).save(unfinished)
    try:
        os.replace(unfinished, folder / "starts")
    except OSError:  # another process was faster
        shutil.rmtree(unfinished)
