"""Models of Stable-Baselines3 as policies: ``sb3:FILE.zip``.

Such a zip holds Python objects as pickles: opening it can run code, so open only what you trust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from v2w_gym.policies.observations import batch_of
from v2w_gym.policies.sb3_files import find_normalisation, load_model, load_normalisation
from v2w_gym.policies.sb3_frames import Layout, Stack, check_spaces
from v2w_gym.policies.simple import Actions, SlotGenerators
from v2w_gym.policies.specs import parse_spec


class SB3Policy:
    """Acts as a trained model does: channels in its order, frames stacked and normalised as in its training.

    Args:
        model: of Stable-Baselines3, with ``observation_space``, ``action_space`` and ``predict``.
        deterministic: the most likely action; False draws one, repeatably after ``seed``, slot by slot.
        normalisation: the ``VecNormalize`` that it was trained with; None for one that reads raw frames.

    Raises:
        ValueError: observations or actions of a kind that no world here has.
    """

    def __init__(self, model: Any, *, deterministic: bool = True, normalisation: Any = None) -> None:
        self.model, self.deterministic = model, deterministic
        space = model.observation_space
        self._bare = not hasattr(space, "spaces")
        boxes = {"pixels": space} if self._bare else dict(space.spaces)
        self._layouts = {key: Layout.of(box.shape) for key, box in boxes.items() if len(box.shape) == 3}
        vector = hasattr(model.action_space, "low") and len(model.action_space.shape) == 1
        if "pixels" not in self._layouts or not vector:
            raise ValueError(
                "a policy here sees images and gives a vector of numbers; the model reads "
                f"{space} and gives {model.action_space}"
            )
        self._stacks = {key: Stack(layout.frames) for key, layout in self._layouts.items()}
        self._normalisation = normalisation
        self._generators = SlotGenerators(stream=4)

    def seed(self, seeds: Sequence[int]) -> None:
        """One seed per slot; they matter to actions that are drawn."""
        self._generators.seed(seeds)

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``; frames before the first are zeros, as in ``VecFrameStack``."""
        for stack in self._stacks.values():
            stack.reset(slots)

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Compare with the spaces of a single environment.

        Raises:
            ValueError: the model was trained for images of another size, or for other actions.
        """
        check_spaces(self._layouts["pixels"], self.model.action_space, observation_space, action_space)

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)`` within the model's action space, for ``observation["pixels"]``.

        Raises:
            ValueError: images of another size, or an entry that the model reads and that is not there.
        """
        seen = self._arranged(observation)
        if self.deterministic:
            actions, _ = self.model.predict(seen, deterministic=True)
        else:
            actions = np.concatenate([self._drawn(seen, slot) for slot in range(batch_of(observation))])
        return np.asarray(actions, dtype=np.float32)

    def _drawn(self, seen: Any, slot: int) -> npt.NDArray[Any]:
        """One slot's action; the library draws from torch's global generator, which is left as it was."""
        row = {key: value[[slot]] for key, value in seen.items()} if isinstance(seen, dict) else seen[[slot]]
        with torch.random.fork_rng():
            torch.manual_seed(int(self._generators[slot].integers(2**31)))
            actions, _ = self.model.predict(row, deterministic=False)
        return np.asarray(actions)

    def _arranged(self, observation: Mapping[str, Any]) -> Any:
        """What the model reads of an observation."""
        keys = ["pixels"] if self._bare else list(self.model.observation_space.spaces)
        if missing := [key for key in keys if key not in observation]:
            raise ValueError(f"the model reads {missing}, the world shows {sorted(observation)}")
        for key, layout in self._layouts.items():
            layout.check(np.shape(observation[key]), key)
        early = self._normalises_single_frames()
        seen = {key: np.asarray(observation[key]) for key in keys}
        arranged = {k: self._layouts[k].single(v) if k in self._layouts else v for k, v in seen.items()}
        if early:
            arranged = self._normalised(arranged)
        for key, layout in self._layouts.items():
            arranged[key] = layout.stacked(self._stacks[key].see(arranged[key]))
        arranged = arranged if early else self._normalised(arranged)
        return arranged["pixels"] if self._bare else arranged

    def _normalises_single_frames(self) -> bool:
        """Whether the statistics are those of one frame, while the model reads several."""
        statistics = getattr(self._normalisation, "obs_rms", None)
        own = statistics.get("pixels") if isinstance(statistics, dict) else statistics
        if own is None:
            return False
        return tuple(own.mean.shape) != tuple(self._layouts["pixels"].shape)

    def _normalised(self, seen: dict[str, Any]) -> dict[str, Any]:
        if self._normalisation is None:
            return seen
        if self._bare:
            return {"pixels": self._normalisation.normalize_obs(seen["pixels"])}
        return dict(self._normalisation.normalize_obs(seen))


@dataclass(frozen=True)
class SB3Options:
    """Options of ``sb3:``.

    Attributes:
        deterministic: see :class:`SB3Policy`.
        device: where the model runs.
        normalise: file of the ``VecNormalize`` statistics; None looks beside the zip, ``"none"`` takes none.
    """

    deterministic: bool = True
    device: str = "cpu"
    normalise: str | None = None


def from_spec(spec: str) -> SB3Policy:
    """``sb3:FILE.zip`` or ``sb3:ALGORITHM:FILE.zip``, with :class:`SB3Options`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is none of its models, statistics that do not fit, or an unknown option.
    """
    target, options = parse_spec(spec, SB3Options)
    head, colon, tail = target.partition(":")
    algorithm, file = (head, tail) if colon and head.isalnum() and len(head) > 1 else (None, target)
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}; a model is saved with model.save('{path.stem or 'model'}.zip')"
        )
    model = load_model(path, algorithm, options.device)
    statistics = options.normalise if options.normalise is not None else find_normalisation(path)
    loaded = None if statistics in (None, "none") else load_normalisation(Path(str(statistics)), model, path)
    if loaded is None and options.normalise != "none":
        _refuse_without_statistics(model, path)
    return SB3Policy(model, deterministic=options.deterministic, normalisation=loaded)


def _refuse_without_statistics(model: Any, path: Path) -> None:
    """Raise ``ValueError`` where a model reads images that are no bytes and nothing says what makes them."""
    space = model.observation_space
    box = space.spaces.get("pixels") if hasattr(space, "spaces") else space
    if box is not None and len(box.shape) == 3 and box.dtype != np.uint8:
        raise ValueError(
            f"{path} reads images of {box.dtype}, not bytes: trained behind VecNormalize or a wrapper; "
            f"put its statistics beside it (venv.save('{path.stem}_vecnormalize.pkl')), name "
            "them (normalise=FILE.pkl), or, if it reads 0..255 as floats, say normalise=none; "
            "for another wrapper see v2w_gym.policies.from_callable"
        )
