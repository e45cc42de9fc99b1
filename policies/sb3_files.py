"""Files of Stable-Baselines3: which algorithm saved a zip, and the statistics that lie beside it."""

from __future__ import annotations

import difflib
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

_MARKS = {
    "ppo": "clip_range",
    "a2c": "gae_lambda",
    "sac": "target_entropy",
    "td3": "target_policy_noise",
    "dqn": "exploration_fraction",
}
"""Algorithm to an entry of its zips that those of the algorithms after it lack. DDPG saves what TD3 does."""
ALGORITHMS = (*_MARKS, "ddpg")
_UNUSED = {"buffer_size": 1, "n_steps": 1, "replay_buffer_class": None}
"""What only training needs: a replay buffer of the original size would take gigabytes."""


def algorithm_of(path: Path) -> str:
    """The algorithm that saved ``path``, e.g. ``"ppo"``.

    Raises:
        ValueError: no zip of Stable-Baselines3, or one of an algorithm that is not known here.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = json.loads(archive.read("data"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is no model of Stable-Baselines3 ({error}); save one: model.save(path)"
        ) from error
    policy = held.get("policy_class")
    home = policy.get("__module__", "") if isinstance(policy, dict) else ""
    found = next((name for name, mark in _MARKS.items() if mark in held), None)
    if found is None or home.startswith("sb3_contrib"):
        raise ValueError(
            f"{path} was saved by an algorithm that is not one of {', '.join(ALGORITHMS)} "
            f"(its policy is from {home or 'nowhere known'}); load it yourself and use "
            "v2w_gym.policies.sb3.SB3Policy(model)"
        )
    return found


def load_model(path: Path, algorithm: str | None, device: str) -> Any:
    """The model in ``path``.

    Args:
        path: a zip.
        algorithm: one of ``ALGORITHMS``, in any case; None reads it from the zip.
        device: where it runs.

    Raises:
        ValueError: an unknown algorithm, or a file that it did not save.
    """
    import stable_baselines3

    name = algorithm_of(path) if algorithm is None else algorithm.lower()
    if name not in ALGORITHMS:
        near = difflib.get_close_matches(name, ALGORITHMS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(ALGORITHMS)}"
        raise ValueError(f"unknown algorithm {algorithm!r}; {hint}")
    try:
        return getattr(stable_baselines3, name.upper()).load(path, device=device, custom_objects=_UNUSED)
    except Exception as error:  # whatever the pickles inside raise
        raise ValueError(
            f"{path} could not be loaded as a model of {name.upper()}: {type(error).__name__}: {error}; "
            f"it must have been saved by a version like {stable_baselines3.__version__}, "
            "and classes of your own must be importable"
        ) from error


def find_normalisation(path: Path) -> Path | None:
    """Statistics near a zip, where the library and its Zoo put them; None without any."""
    stem = path.with_suffix("").name
    names = [f"{stem}_vecnormalize.pkl", f"{stem}/vecnormalize.pkl", "vecnormalize.pkl"]
    if checkpoint := re.fullmatch(r"(.*)_(\d+)_steps", stem):
        names.insert(0, f"{checkpoint[1]}_vecnormalize_{checkpoint[2]}_steps.pkl")
    return next((path.parent / name for name in names if (path.parent / name).is_file()), None)


def load_normalisation(path: Path, model: Any, zip_file: Path) -> Any:
    """The ``VecNormalize`` in ``path``, a pickle; None where it leaves observations as they are.

    Args:
        path: as ``VecNormalize.save`` writes it.
        model: that it is to be used with.
        zip_file: where the model came from, for messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of something else, or of another model.
    """
    from stable_baselines3.common.vec_env import VecNormalize

    if not path.is_file():
        raise FileNotFoundError(f"no statistics at {path}; write them with venv.save({str(path)!r})")
    try:
        loaded = pickle.loads(path.read_bytes())
    except Exception as error:  # whatever unpickling raises
        raise ValueError(f"{path} could not be read: {type(error).__name__}: {error}") from error
    if not isinstance(loaded, VecNormalize):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, expected what VecNormalize.save writes")
    if not loaded.norm_obs:
        return None
    trained = getattr(model.observation_space, "spaces", {})
    if set(getattr(loaded.observation_space, "spaces", {})) != set(trained):
        raise ValueError(f"{path} is of another model than {zip_file}: their observations differ")
    normalised = [trained[key] for key in loaded.norm_obs_keys] if trained else [model.observation_space]
    if any(space.dtype == "uint8" for space in normalised):
        raise ValueError(
            f"{path} normalises observations, but {zip_file} reads bytes; if it belongs to another model, "
            "say normalise=none"
        )
    return loaded
