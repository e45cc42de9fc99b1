"""Judges by name: a YAML file names a kind of judge and its settings; ``open_judge`` makes the judge.

::

    kind: local_vlm
    model: HuggingFaceTB/SmolVLM2-2.2B-Instruct
    prompt: yes_no            # configs/judges/prompts/yes_no.yaml, or a mapping with the same keys
    frames: {rule: even, count: 8}

Paths inside a file are relative to the working directory.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from v2w_gym import configs
from v2w_gym.config import from_dict
from v2w_gym.rewards.judge import ClipJudge

FOLDER = Path(configs.__file__).parent / "judges"
DATA = {"prompt": FOLDER / "prompts", "rubric": FOLDER / "rubrics"}
"""Keys of a judge's file that may name a file here instead of holding its values."""


@dataclass(frozen=True)
class Kind:
    """Where a kind of judge lies: its module, its configuration, and its class with ``from_config``."""

    module: str
    config: str
    judge: str


KINDS = {
    "local_vlm": Kind("v2w_gym.rewards.vlm", "LocalVlmConfig", "LocalVlm"),
    "local_rubric": Kind("v2w_gym.rewards.vlm_rubric", "LocalRubricConfig", "LocalRubric"),
    "video_classifier": Kind("v2w_gym.rewards.video_classifier", "VideoClassifierConfig", "VideoClassifier"),
    "frame_classifier": Kind("v2w_gym.rewards.frame_judge", "FrameJudgeConfig", "FrameJudge"),
    "ensemble": Kind("v2w_gym.rewards.ensemble", "EnsembleConfig", "Ensemble"),
    "served_vlm": Kind("v2w_gym.rewards.served", "ServedVlmConfig", "ServedVlm"),
    "served_rubric": Kind("v2w_gym.rewards.served_rubric", "ServedRubricConfig", "ServedRubric"),
    "human": Kind("v2w_gym.rewards.human", "HumanConfig", "HumanJudge"),
}


def judge_names() -> list[str]:
    """Names of the judges that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def open_judge(spec: str | Path, *, device: str = "cpu") -> ClipJudge:
    """A judge of clips, ready to use.

    Args:
        spec: name of a judge that comes with the package (:func:`judge_names`), or a YAML file.
        device: where its network runs, if it has one, e.g. ``"cuda"``.

    Raises:
        FileNotFoundError: no such name or file.
        ValueError: an unknown kind or key, settings that do not fit, or no such device.
        ImportError: it needs an optional package; the message gives the line to type.
    """
    kind, config = judge_config(spec)
    _check_device(device)
    judge = getattr(importlib.import_module(kind.module), kind.judge)
    return cast(ClipJudge, judge.from_config(config, device=device))


def judge_config(spec: str | Path) -> tuple[Kind, Any]:
    """The kind of a judge and its settings, a frozen dataclass; nothing is loaded.

    Raises:
        FileNotFoundError: no such name or file.
        ValueError: an unknown kind or key, or a value that does not fit.
    """
    path = _file(spec)
    values = _read(path)
    name = values.pop("kind", None)
    if not isinstance(name, str) or name not in KINDS:
        near = difflib.get_close_matches(str(name), KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{path} must say one of kind: {', '.join(KINDS)}; got {name!r}{hint}")
    kind = KINDS[name]
    for key, folder in DATA.items():
        if isinstance(values.get(key), str):
            values[key] = _read(_file(values[key], folder, what=key))
    config = getattr(importlib.import_module(kind.module), kind.config)
    return kind, from_dict(config, values, where=str(path))


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # no such device, or a torch that knows none
        first = str(error).partition("\n")[0]
        raise ValueError(f'no device {device!r} here ({first}); say device="cpu"') from error


def _file(spec: str | Path, folder: Path = FOLDER, what: str = "judge") -> Path:
    """The file that ``spec`` names in ``folder``, or that it is."""
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if str(spec) in names:
        return folder / f"{spec}.yaml"
    path = Path(spec).expanduser()
    if path.is_file():
        return path
    near = difflib.get_close_matches(str(spec), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    raise FileNotFoundError(f"no {what} {str(spec)!r}: neither a file nor a name that is known; {hint}")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} must be a mapping of keys to values, got {type(values).__name__}")
    return dict(values)
