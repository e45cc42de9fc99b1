"""The training stages by name: ``v2w train STAGE --config FILE --out DIR [key=value ...]``."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from v2w_gym.config import from_dict, to_dict
from v2w_gym.data.episode import EpisodeFolder

T = TypeVar("T")

STAGES = {
    "codec": ("v2w_gym.training.codec", "CodecConfig", "train"),
    "pretrain": ("v2w_gym.training.world_model", "VideoConfig", "pretrain"),
    "reader": ("v2w_gym.training.reader", "ReaderConfig", "train"),
    "finetune": ("v2w_gym.training.world_model", "VideoConfig", "finetune"),
    "detector": ("v2w_gym.training.detector", "DetectorConfig", "train"),
    "policies": ("v2w_gym.training.policies", "PoliciesConfig", "train"),
    "imagination": ("v2w_gym.training.imagination.trainer", "ImaginationConfig", "train"),
}


def run(stage: str, config: str | Path, out: str | Path, overrides: Sequence[str] = ()) -> bool:
    """Run a stage, or go on with it if ``out`` holds a checkpoint.

    Args:
        stage: one of ``STAGES``.
        config: YAML file.
        out: folder of checkpoints, curves, samples and the result.
        overrides: ``key=value`` with dots for nested keys, e.g. ``loop.steps=100``; values are YAML.

    Returns:
        Whether the stage is finished.

    Raises:
        ValueError: unknown stage, key or value.
    """
    if stage not in STAGES:
        raise ValueError(f"unknown stage {stage!r}; known: {list(STAGES)}")
    module_name, config_name, function = STAGES[stage]
    module = importlib.import_module(module_name)
    built = settings(getattr(module, config_name), config, overrides)
    _remember(built, Path(out))
    return bool(getattr(module, function)(built, Path(out)))


def settings(cls: type[T], config: str | Path, overrides: Sequence[str] = ()) -> T:
    """The dataclass ``cls`` from a YAML file and ``key=value`` texts; see ``run``.

    Raises:
        ValueError: unknown key or value.
    """
    values: dict[str, Any] = yaml.safe_load(Path(config).read_text()) or {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"an override looks like loop.steps=100, got {override!r}")
        _set(values, key.split("."), yaml.safe_load(text))
    return from_dict(cls, values, str(config))


def _remember(config: Any, out: Path) -> None:
    """Add to ``out/legs.jsonl`` what this start of the stage learns from and how, for the card."""
    if os.environ.get("RANK", "0") != "0":
        return
    folders = [*getattr(config, "data", ()), *getattr(config, "videos", ())]
    episodes = {Path(folder).name: len(EpisodeFolder(folder)) for folder in folders}
    out.mkdir(parents=True, exist_ok=True)
    with (out / "legs.jsonl").open("a") as file:
        file.write(json.dumps({"episodes": episodes, "config": to_dict(config)}) + "\n")


def _set(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, Mapping):
            raise ValueError(f"{'.'.join(path)}: {key} is not a group of keys")
        values = inner  # type: ignore[assignment]
    values[path[-1]] = value
