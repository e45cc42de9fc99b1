"""What is checked before anything is recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from v2w_gym.config import to_dict
from v2w_gym.data.episode import EpisodeFolder
from v2w_gym.envs.world import World, check_sizes
from v2w_gym.policies.registry import resolve
from v2w_gym.shapes import check_action
from v2w_gym.training.improving.config import ImproveConfig, imagination
from v2w_gym.training.improving.notes import write_json
from v2w_gym.training.improving.parts import Reality
from v2w_gym.training.improving.play import check_episode
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.unet import VideoUNet
from v2w_gym.world_model.vid2world import Vid2World

_FREE = ("rounds", "device", "play.workers", "finetune.loop.threads", "finetune.loop.max_minutes")
"""Settings that may change between two starts of a run."""


def check(config: ImproveConfig, world: World, reality: Reality, rounds: int) -> None:
    """Refuse what cannot work.

    Args:
        config: settings.
        world: the first world.
        reality: who plays.
        rounds: how often it will have to.

    Raises:
        FileNotFoundError: a folder, or a part of the world, is missing.
        ValueError: a world that cannot be fine-tuned, recordings that do not fit it, a policy that cannot be
            opened, seeds that are taken, or bad settings of ``train``.
        ImportError: a package that the reality or the policy needs is missing.
    """
    _check_world(world)
    if not isinstance(config.train, str):
        imagination(config, str(world.folder), config.data, config.policy, 1)
    _check_apart(config)
    for folder in (*config.data, config.heldout, *filter(None, [config.calibration])):
        episodes = EpisodeFolder(folder)
        check_episode(episodes[0], world.config, str(episodes.files[0]))
    if config.codec is not None:
        _check_codec(FrameCodec.from_pretrained(config.codec), config, world)
    _check_policy(config, world)
    reality.check(world, rounds, taken_seeds(config, world))


def _check_world(world: World) -> None:
    if world.config.detector.kind == "none":
        raise ValueError(
            f"world {world.config.name!r} has no success detector, so its verdicts cannot be held against "
            "reality; take another"
        )
    model = world.model()
    if not isinstance(model, Vid2World) or not isinstance(model.unet, VideoUNet) or _unusual(world):
        raise ValueError(
            f"world {world.config.name!r} cannot be fine-tuned here: take one that v2w train and "
            "v2w assemble made"
        )
    check_sizes(world.config, model)
    world.detector()


def _unusual(world: World) -> bool:
    """Whether it has what ``assemble`` cannot write."""
    said = world.config
    return said.action_bound != 1.0 or said.preset is not None


def _check_policy(config: ImproveConfig, world: World) -> None:
    """Open the policy and let it act once."""
    policy: Any = resolve(config.policy)
    for method, arguments in (("seed", ([0],)), ("reset", ([world.config.instructions[0]], [0]))):
        if hasattr(policy, method):
            getattr(policy, method)(*arguments)
    frame = EpisodeFolder(config.heldout)[0].frames[:1]
    try:
        check_action(policy.act({"pixels": frame}), (1, len(world.config.action.names)))
    except ValueError as error:
        raise ValueError(f"policy {config.policy!r} cannot act in {world.config.name!r}: {error}") from error


def _check_codec(codec: FrameCodec, config: ImproveConfig, world: World) -> None:
    """Raise unless latents of ``config.codec`` are those of the world's own, up to rounding."""
    import torch

    model = world.model()
    assert isinstance(model, Vid2World)  # checked before
    frames = torch.from_numpy(EpisodeFolder(config.heldout)[0].frames[:2])
    mine, its = codec.encode(frames), model.codec.encode(frames)
    if mine.shape != its.shape or float((mine - its).abs().max()) > 0.1:
        raise ValueError(
            f"{config.codec} is not the codec of world {world.config.name!r}: it makes other latents; leave "
            "codec out"
        )


def _check_apart(config: ImproveConfig) -> None:
    """Raise if something that only checks is learned from, too."""
    learned = {Path(folder).resolve() for folder in config.data}
    for name, folder in (("heldout", config.heldout), ("calibration", config.calibration)):
        if folder is not None and Path(folder).resolve() in learned:
            raise ValueError(f"{name} must be a folder that is none of data, got {folder}")


def taken_seeds(config: ImproveConfig, world: World) -> frozenset[int]:
    """Seeds of all recordings, and of the starts from which reality was measured."""
    folders = [*config.data, config.heldout, *filter(None, [config.calibration])]
    taken = {_seed_of(file) for folder in folders for file in EpisodeFolder(folder).files}
    if world.ships_starts:
        starts = world.starts()
        taken |= {seed for id in starts.ids if (seed := starts.by_id(id).seed) is not None}
    return frozenset(taken)


def _seed_of(file: Path) -> int:
    with np.load(file, allow_pickle=False) as episode:  # frames stay compressed
        return int(episode["seed"])


def remember(config: ImproveConfig, model_hash: str, out: Path) -> None:
    """Write ``settings.json``, or see that ``out`` holds a run with the same settings.

    Raises:
        ValueError: it holds another run.
    """
    path = out / "settings.json"
    now = {"world_model_hash": model_hash, **_flat(to_dict(config))}
    if path.exists():
        then = json.loads(path.read_text())
        changed = [key for key in sorted(now.keys() | then.keys()) if now.get(key) != then.get(key)]
        if changed := [key for key in changed if key not in _FREE]:
            raise ValueError(
                f"{out} holds a run with another {', '.join(changed)}; give it the same settings, or another "
                "--out"
            )
    write_json(path, now)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by names with dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat
