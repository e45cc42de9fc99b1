"""A world is a folder: the world model, the success detector, the starts, and what is known of reality.

::

    world.json      WorldConfig: sizes, time, actions, instructions, sampler, detector, hashes of all files
    codec/ unet/ scheduler/     the world model
    detector/       the success detector; none where detector.kind is "none"
    starts/         optional: start contexts
    credibility/    optional: how far frames can be believed
    reality.json    optional: measured success per policy, with the command that made it
    README.md       the card
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from v2w_gym import config as configuration
from v2w_gym.data.framing import Framing
from v2w_gym.data.starts import StartContexts
from v2w_gym.envs.action_spec import ActionSpec
from v2w_gym.envs.deferred import Deferred
from v2w_gym.envs.integrity import WORLD_FILE, verify, write_hashes
from v2w_gym.registration import (
    GENERIC_ID,
    RELEASED_WORLDS,
    SHIPPED_WORLDS,
    released_domain,
    world_folder,
)
from v2w_gym.rewards.base import SuccessDetector
from v2w_gym.world_model.base import Believer, WorldModel

__all__ = ["ActionSpec", "DetectorSpec", "World", "WorldConfig", "write_hashes"]

_MODEL = ("codec", "unet", "scheduler", "conditioner")
_NOT_MODEL = ("detector", "starts", "credibility", "reality.json")
_models: dict[tuple[str, ...], WorldModel] = {}  # weights are shared by all environments of the process


@dataclass(frozen=True)
class DetectorSpec:
    """Which success detector judges frames.

    Attributes:
        kind: ``"classifier"`` is ``v2w_gym.rewards.classifier.FrameClassifier``; ``"none"`` is a world that
            ships none: reward 0.0, no episode ends by success.
        threshold: probability from which a frame counts as success; None takes the detector's own.
        rule: how the frames of an episode make its verdict in an evaluation, e.g. ``"any"``.
    """

    kind: Literal["classifier", "none"]
    threshold: float | None = None
    rule: str = "any"


@dataclass(frozen=True)
class WorldConfig:
    """The values of ``world.json``.

    Attributes:
        name: short name of the world.
        version: raised whenever results could change.
        frame_size: ``(h, w)`` in pixels.
        fps: frames per second of real time.
        horizon: steps after which an episode is truncated.
        window: how many past frames the world model sees.
        action: meaning of the action components.
        instructions: texts of the tasks; the first is the default.
        sampler: how frames are sampled, handed to the world model as it is.
        samplers: presets by name, e.g. ``fast``, ``balanced``, ``best``: values that replace those of
            ``sampler``.
        action_bound: what the world model holds its actions to, see ``Vid2World``; None unless actions are
            normalised.
        detector: the success detector.
        framing: how any picture becomes a frame; None takes frames of the exact size only.
        preset: name of the stand-in where the weights are not trained ones, e.g. ``"tiny-random"``.
        hashes: relative file name to sha256.
    """

    name: str
    version: int
    frame_size: tuple[int, int]
    fps: float
    horizon: int
    window: int
    action: ActionSpec
    instructions: tuple[str, ...]
    detector: DetectorSpec
    framing: Framing | None = None
    sampler: Mapping[str, Any] = field(default_factory=dict)
    samplers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    action_bound: float | None = 1.0
    preset: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.frame_size) != 2 or min(self.frame_size) < 1:
            raise ValueError(f"frame_size must be [h, w] in pixels, got {list(self.frame_size)}")
        if min(self.horizon, self.window) < 1 or self.fps <= 0:
            raise ValueError(
                f"horizon, window and fps must be positive, got {self.horizon}, {self.window}, {self.fps}"
            )
        if not self.instructions:
            raise ValueError("instructions must name at least one task, got none")
        for name, values in self.samplers.items():
            if not isinstance(values, Mapping):
                raise ValueError(f'samplers.{name} must be a mapping such as {{"steps": 2}}, got {values!r}')
        if self.action.kind != "normalised" and self.action_bound is not None:
            raise ValueError(
                f"actions of kind {self.action.kind!r} leave -1..1, so action_bound must be null, "
                f'got {self.action_bound}; write "action_bound": null into world.json'
            )
        if self.framing is not None and self.framing.frame_size != tuple(self.frame_size):
            raise ValueError(
                f"framing makes frames (h, w) of {self.framing.frame_size}, "
                f"but frame_size is {tuple(self.frame_size)}"
            )


@dataclass(frozen=True)
class World:
    """An opened world. Opening reads ``world.json`` only; every other file is checked when it is loaded.

    Attributes:
        folder: where it lies.
        config: its ``world.json``.
    """

    folder: Path
    config: WorldConfig

    @classmethod
    def open(cls, world: str | Path, weights: str | Path | None = None, preset: str | None = None) -> World:
        """Open a registered id, a folder, or a hub id ``owner/name``.

        Args:
            world: which.
            weights: of a released id: a checkpoint file, a folder or a hub id.
            preset: of a released id: ``"tiny-random"`` for random weights.

        Raises:
            FileNotFoundError: there is no such world, or the folder has no ``world.json``.
            ValueError: ``world.json`` is damaged or has an unknown key, or weights or a preset for an id that
                takes none.
        """
        if released_domain(str(world)) is not None:
            from v2w_gym.envs.released import open_released

            return open_released(str(world), weights, preset)
        if weights is not None or preset is not None:
            raise ValueError(
                f"weights and preset are for the released ids ({', '.join(RELEASED_WORLDS)}), "
                f"not for {str(world)!r}"
            )
        folder = _find(world)
        if not (folder / WORLD_FILE).is_file():
            raise FileNotFoundError(
                f"{folder} is not a world: it has no {WORLD_FILE}; a world folder holds {WORLD_FILE}, "
                "codec/, unet/, scheduler/, detector/ and starts/; a released checkpoint is opened by its "
                f'id: gym.make("v2w_gym:{next(iter(RELEASED_WORLDS))}", weights=...)'
            )
        try:
            values = json.loads((folder / WORLD_FILE).read_text())
        except ValueError as error:
            raise ValueError(f"{folder / WORLD_FILE} is damaged ({error}); fetch the world again") from error
        return cls(folder, configuration.from_dict(WorldConfig, values, where=str(folder / WORLD_FILE)))

    def sampler(self, chosen: str | Mapping[str, Any] | None = None) -> dict[str, Any]:
        """How frames are sampled, value by value.

        Args:
            chosen: one of the world's presets by name, values that replace those of its ``sampler``, or None.

        Raises:
            ValueError: the world has no preset of that name.
        """
        presets = self.config.samplers
        if isinstance(chosen, str) and chosen not in presets:
            near = difflib.get_close_matches(chosen, presets, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            known = f"it has {', '.join(presets)}" if presets else "it has none"
            raise ValueError(
                f"world {self.config.name!r} has no sampler preset {chosen!r}; {hint}{known}; "
                'or give values: sampler={"steps": 2}'
            )
        values = presets[chosen] if isinstance(chosen, str) else chosen or {}
        return {**self.config.sampler, **values}

    def model(
        self,
        device: str = "cpu",
        sampler: str | Mapping[str, Any] | None = None,
        *,
        dtype: str = "fp32",
        **changes: Any,
    ) -> WorldModel:
        """The world model; one object per device, dtype and sampler, so that a process loads weights once.

        Args:
            device: where it runs, e.g. ``"cuda"``.
            sampler: name of one of the world's presets, or values that replace those of its ``sampler``.
            dtype: of the weights, ``"fp32"`` or ``"bf16"``.
            **changes: single values of the sampler that are to be others still.

        Raises:
            FileNotFoundError: a weights file is missing.
            ValueError: a weights file is damaged or foreign, or a preset, a sampler value, a dtype or a
                device is unknown.
        """
        from v2w_gym.weights import check_device, dtype_of
        from v2w_gym.world_model.vid2world import Vid2World

        check_device(device)
        values = self._checked_sampler({**self.sampler(sampler), **changes})
        version = configuration.config_hash(self.config) + self._written()
        key = (str(self.folder.resolve()), version, device, dtype, json.dumps(values, sort_keys=True))
        if key not in _models:
            self._verify_model()
            _models[key] = Vid2World.from_pretrained(
                self.folder, device=device, sampler=values, dtype=dtype_of(dtype)
            )
        return _models[key]

    def deferred_model(
        self, device: str = "cpu", sampler: str | Mapping[str, Any] | None = None, *, dtype: str = "fp32"
    ) -> WorldModel:
        """As ``model``, checked at once but loaded at first use; without hashes to check, loaded at once.

        Raises:
            FileNotFoundError: a weights file is missing.
            ValueError: a weights file is damaged or foreign, or a preset, a sampler value, a dtype or a
                device is unknown.
        """
        from v2w_gym.weights import check_device, dtype_of

        check_device(device)
        if not self.config.hashes:
            return self._of_stated_size(self.model(device, sampler, dtype=dtype))
        self._checked_sampler(self.sampler(sampler))
        dtype_of(dtype)
        self._verify_model()
        deferred = Deferred(lambda: self._of_stated_size(self.model(device, sampler, dtype=dtype)))
        return cast(WorldModel, deferred)

    def _written(self) -> str:
        """When the model's files were written, where no hashes tell one version of them from another."""
        if self.config.hashes:
            return ""
        files = (path for part in _MODEL for path in sorted((self.folder / part).rglob("*")))
        return str([(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files])

    def _checked_sampler(self, values: dict[str, Any]) -> dict[str, Any]:
        from v2w_gym.world_model.sampler import SamplerConfig

        configuration.from_dict(SamplerConfig, values, "sampler")
        return values

    def _verify_model(self) -> None:
        parts = {name.split("/")[0] for name in self.config.hashes} | set(_MODEL)
        verify(self.folder, self.config.hashes, tuple(parts.difference(_NOT_MODEL)))

    def _of_stated_size(self, model: WorldModel) -> WorldModel:
        check_sizes(self.config, model)
        return model

    def detector(self, device: str = "cpu") -> SuccessDetector:
        """The success detector, with the world's threshold; one that judges nothing where there is none.

        Args:
            device: where it runs, best where the model does.
        """
        from v2w_gym.rewards.classifier import FrameClassifier
        from v2w_gym.rewards.unjudged import Unjudged

        if self.config.detector.kind == "none":
            return Unjudged()
        verify(self.folder, self.config.hashes, ("detector",))
        detector = FrameClassifier.from_pretrained(self.folder / "detector").to(device)
        threshold, own = self.config.detector.threshold, detector.config
        if threshold in (None, own.threshold):
            return detector
        return detector.calibrated(own.temperature, own.shift, threshold)

    def believer(self, device: str = "cpu") -> Believer | None:
        """What says how far the world's own model can be believed, or None where nobody has taught it.

        Args:
            device: where it runs, best where the model does.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged or foreign, or was made for other weights than the world's.
        """
        from v2w_gym.world_model.credibility import Credibility

        folder = self.folder / "credibility"
        if not folder.is_dir() and not any(name.startswith("credibility/") for name in self.config.hashes):
            return None
        verify(self.folder, self.config.hashes, (folder.name,))
        taught = Credibility.from_pretrained(folder)
        for name, digest in taught.config.weights.items():
            if self.config.hashes.get(name, digest) != digest:
                raise ValueError(
                    f"{folder} was made for another {name} than the world's; make it again: "
                    f"v2w credibility fit --world {self.folder} --help, or delete that folder and run "
                    "v2w_gym.write_hashes on the world's"
                )
        return taught.to(device)

    @property
    def credible_from(self) -> float | None:
        """Mean credibility from which an episode is credible, or None where the world cannot tell."""
        believer = self.believer()
        return None if believer is None else believer.credible_from

    @property
    def ships_starts(self) -> bool:
        """Whether the world has start contexts of its own."""
        listed = any(name.startswith("starts/") for name in self.config.hashes)
        return listed or (self.folder / "starts").is_dir()

    def starts(self) -> StartContexts:
        """The start contexts.

        Raises:
            FileNotFoundError: the world ships none, or a file is missing.
            ValueError: a file is damaged or foreign.
        """
        if not self.ships_starts:
            raise FileNotFoundError(no_starts(self.config.name))
        verify(self.folder, self.config.hashes, ("starts",))
        return StartContexts.load(self.folder / "starts")

    def reality(self) -> dict[str, Any] | None:
        """What ``reality.json`` says, or None where reality was never measured."""
        path = self.folder / "reality.json"
        verify(self.folder, self.config.hashes, (path.name,))
        return dict(json.loads(path.read_text())) if path.is_file() else None


def check_sizes(config: WorldConfig, model: WorldModel) -> None:
    """Raise ``ValueError`` unless frames and actions of ``model`` are those that ``config`` states."""
    stated = (tuple(config.frame_size), len(config.action.names))
    actual = (tuple(model.frame_size), model.action_dim)
    if stated != actual:
        raise ValueError(
            f"world {config.name!r} states frames (h, w) of {stated[0]} and {stated[1]} action components, "
            f"its model has {actual[0]} and {actual[1]}; the parts are from different worlds"
        )


def no_starts(name: str) -> str:
    """What to tell somebody who needs the start contexts of a world that ships none."""
    return (
        f'world {name!r} ships no starts; bring your own: gymnasium.make(id, starts="clip.mp4") (also an '
        'image, an .npz, a folder of any of these, or an array), or env.reset(options={"frames": frames})'
    )


def _find(world: str | Path) -> Path:
    """The folder that ``world`` means, fetched from the hub if need be."""
    name = str(world)
    if (shipped := world_folder(name)) is not None:
        if not shipped.is_dir():
            raise FileNotFoundError(
                f"the files of {name} are not in this installation ({shipped}); "
                "install v2w_gym again: pip install --force-reinstall --no-deps v2w_gym"
            )
        return shipped
    folder = Path(world).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(world, str) and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        return _fetch(name)
    known = (*SHIPPED_WORLDS, *RELEASED_WORLDS)
    near = difflib.get_close_matches(name.removeprefix("v2w_gym:"), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"shipped worlds: {', '.join(SHIPPED_WORLDS)}"
    raise FileNotFoundError(
        f"no world {name!r}: it is neither a registered id, nor a folder, nor a hub id (owner/name); {hint}"
    )


def _fetch(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.safetensors", "*.npz", "*.md"]
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"no world {repository!r}: there is no such folder, and the hub did not give it ({error}); check "
            f"the spelling, the network and your rights, or pass a folder: "
            f'gym.make("v2w_gym:{GENERIC_ID}", world="path/to/world")'
        ) from error
