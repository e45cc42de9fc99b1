"""Vision-language-action models with OpenVLA's ``predict_action``, through transformers.

Source of the calls: OpenVLA, ``vla-scripts/deploy.py``, ``experiments/robot/openvla_utils.py`` and
``prismatic/extern/hf/modeling_prismatic.py``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from v2w_gym.data.episode import FrameArray
from v2w_gym.data.framing import Framing
from v2w_gym.envs.action_spec import ActionFrame
from v2w_gym.envs.arm import arm_spec
from v2w_gym.envs.grippers import GRIPPERS, Gripper
from v2w_gym.policies.base import Policy
from v2w_gym.policies.contract import ActionContract
from v2w_gym.policies.fit import Fit
from v2w_gym.policies.history import FrameHistory
from v2w_gym.policies.normaliser import Normaliser
from v2w_gym.policies.observations import batch_of
from v2w_gym.policies.simple import Actions
from v2w_gym.policies.specs import parse_spec

PROMPT = "In: What action should the robot take to {instruction}?\nOut:"
"""OpenVLA's; the instruction is put in lower case, as its own code does."""

STATISTICS_FILE = "dataset_statistics.json"


@dataclass(frozen=True)
class VlaSettings:
    """How a model is asked.

    Attributes:
        unnorm_key: whose statistics undo the normalisation of actions, one of ``model.norm_stats``; None
            takes the only one there is.
        prompt: with ``{instruction}`` in it.
        center_crop: share of the picture's area that is kept, around its centre: 0.9 for models that were
            fine-tuned with random crops, else 1.0.
        framing: of the world, so that its black bars are taken off; None leaves frames whole.
        gripper: what the seventh number means; OpenVLA's data is brought to ``"openness"``.
        frame: in which frame its motions are measured; None is not stated.
        rate: its actions per second; None is not stated.
    """

    unnorm_key: str | None = None
    prompt: str = PROMPT
    center_crop: float = 1.0
    framing: Framing | None = None
    gripper: Gripper = "openness"
    frame: ActionFrame | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        if "{instruction}" not in self.prompt:
            raise ValueError(f"prompt needs {{instruction}} where the task stands, got {self.prompt!r}")
        if not 0 < self.center_crop <= 1:
            raise ValueError(f"center_crop is a share of the area in 0..1, got {self.center_crop}")


class OpenVLAPolicy:
    """Asks the model about one slot after the other, as its own code does: it has no batches.

    Args:
        model: with ``predict_action(**inputs, unnorm_key=..., do_sample=False)`` and ``norm_stats``.
        processor: ``processor(prompt, image)`` gives the inputs, which can be moved with ``.to``.
        settings: how the model is asked.

    Attributes:
        contract: dx, dy, dz, droll, dpitch, dyaw, gripper, un-normalised by the statistics of
            ``unnorm_key``; ``adapt(policy, world)`` makes them a world's.

    Raises:
        TypeError: a model without these methods.
        ValueError: a key that the model has no statistics for, or none where it has several.
    """

    def __init__(self, model: Any, processor: Any, settings: VlaSettings | None = None) -> None:
        if not callable(getattr(model, "predict_action", None)):
            raise TypeError(
                f"an OpenVLA-style model has a method predict_action, {type(model).__name__} has none; load "
                "the checkpoint with its own code: OpenVLAPolicy.from_pretrained(id, trust_remote_code=True)"
            )
        self.settings = settings or VlaSettings()
        self.unnorm_key = pick_key(getattr(model, "norm_stats", None), self.settings.unnorm_key)
        self.contract = _contract(
            model.norm_stats[self.unnorm_key].get("action", {}), self.unnorm_key, self.settings
        )
        self._model, self._processor = model, processor
        self._seen = FrameHistory(1, framing=self.settings.framing)
        self._instruction: dict[int, str] = {}

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str,
        settings: VlaSettings | None = None,
        *,
        trust_remote_code: bool = False,
        device: str = "cpu",
        dtype: str = "bf16",
    ) -> OpenVLAPolicy:
        """Load model and processor with transformers.

        A folder's ``dataset_statistics.json`` takes the place of ``norm_stats``, as in OpenVLA's own server.

        Args:
            folder_or_id: a folder, or an id of the hub.
            settings: how the model is asked.
            trust_remote_code: run the Python files that come with the checkpoint. OpenVLA's model is such a
                file, so without it only models that transformers itself knows can be loaded.
            device: where it runs.
            dtype: of its weights, ``"bf16"`` as in OpenVLA's code, or ``"fp32"``.

        Raises:
            ImportError: transformers is missing.
            ValueError: the checkpoint needs its own code, or statistics are missing or ambiguous.
        """
        from v2w_gym.policies.vla_loading import load_vla

        model, processor = load_vla(folder_or_id, trust_remote_code, device, dtype)
        statistics = Path(folder_or_id) / STATISTICS_FILE
        if statistics.is_file():
            model.norm_stats = json.loads(statistics.read_text())
        return cls(model, processor, settings)

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``; the model has no memory."""
        self._instruction |= dict(zip(slots, instruction, strict=True))

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, 7)`` in metres and radians per step for ``observation["pixels"]`` ``(b, h, w, 3)``.

        Raises:
            ValueError: the model gave something else than one finite number for each component.
        """
        slots = range(batch_of({"pixels": observation["pixels"]}))
        pictures = self._seen.see(observation["pixels"])[:, 0]
        return np.stack([self._ask(pictures[slot], self._instruction.get(slot, "")) for slot in slots])

    def _ask(self, frame: FrameArray, instruction: str) -> Actions:
        prompt = self.settings.prompt.replace("{instruction}", instruction.lower())
        inputs = self._processor(prompt, Image.fromarray(self._cropped(frame)))
        if hasattr(self._model, "device"):
            inputs = inputs.to(self._model.device, dtype=self._model.dtype)
        found = self._model.predict_action(**inputs, unnorm_key=self.unnorm_key, do_sample=False)
        action: Actions = np.array(found, dtype=np.float32)
        if action.shape != (len(self.contract.names),) or not np.isfinite(action).all():
            raise ValueError(
                f"predict_action must give {len(self.contract.names)} finite numbers, "
                f"got {action.tolist()} of shape {action.shape}"
            )
        convention = GRIPPERS[self.settings.gripper]
        action[-1] = action[-1].clip(convention.low, convention.high)  # its bins reach beyond a state's range
        return action

    def _cropped(self, frame: FrameArray) -> FrameArray:
        h, w = frame.shape[:2]
        side = math.sqrt(self.settings.center_crop)
        high, wide = max(1, round(h * side)), max(1, round(w * side))
        top, left = (h - high) // 2, (w - wide) // 2
        return np.ascontiguousarray(frame[top : top + high, left : left + wide])


def pick_key(norm_stats: Any, wanted: str | None) -> str:
    """The data set whose statistics are used.

    Raises:
        ValueError: none is known, the wanted one is not, or several are and none is wanted.
    """
    if not isinstance(norm_stats, Mapping) or not norm_stats:
        raise ValueError(
            "the model has no norm_stats, so its actions cannot be brought to units; put the "
            f"{STATISTICS_FILE} of its training beside config.json, or set model.norm_stats"
        )
    known = ", ".join(norm_stats)
    if wanted is None:
        if len(norm_stats) > 1:
            raise ValueError(
                f"the model knows the statistics of {len(norm_stats)} data sets; name the one of your robot: "
                f"VlaSettings(unnorm_key=...); known: {known}"
            )
        return str(next(iter(norm_stats)))
    if wanted not in norm_stats:
        near = difflib.get_close_matches(wanted, map(str, norm_stats), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"the model has no statistics of unnorm_key {wanted!r}; {hint}known: {known}")
    return wanted


def _contract(statistics: Mapping[str, Any], key: str, settings: VlaSettings) -> ActionContract:
    """What ``predict_action`` returns: q01..q99 where its mask says so, and the gripper as it was learned."""
    spec = arm_spec(settings.gripper)
    if not {"q01", "q99"} <= set(statistics) or len(statistics["q01"]) != len(spec.names):
        raise ValueError(
            f"the statistics of {key!r} need q01 and q99 of {len(spec.names)} components "
            f"({', '.join(spec.names)}), got {', '.join(statistics) or 'nothing'}; this model's actions are "
            "others: state them in a policy of your own"
        )
    mask = statistics.get("mask", [True] * len(spec.names))
    low = [q if used else bound for q, bound, used in zip(statistics["q01"], spec.low, mask, strict=True)]
    high = [q if used else bound for q, bound, used in zip(statistics["q99"], spec.high, mask, strict=True)]
    low[-1], high[-1] = spec.low[-1], spec.high[-1]
    digest = hashlib.sha256(json.dumps(statistics, sort_keys=True, default=list).encode()).hexdigest()[:12]
    return ActionContract(
        names=spec.names,
        units=spec.units,
        low=tuple(map(float, low)),
        high=tuple(map(float, high)),
        frame=settings.frame,
        mode="delta",
        rate=settings.rate,
        gripper=settings.gripper,
        normaliser=Normaliser(data=key, file=f"norm_stats[{key!r}], q01..q99, sha256:{digest}"),
    )


@dataclass(frozen=True)
class _Options(Fit):
    """Options of ``openvla:FOLDER_OR_ID``."""

    unnorm_key: str | None = None
    center_crop: float = 1.0
    trust_remote_code: bool = False
    device: str = "cpu"
    dtype: Literal["bf16", "fp32"] = "bf16"


def from_spec(spec: str) -> Policy:
    """``openvla:FOLDER_OR_ID,unnorm_key=KEY,trust_remote_code=true,world=WORLD,gripper=sticky``.

    With ``world``, actions are adapted to it and its black bars are taken off.

    Raises:
        ImportError: transformers is missing.
        ValueError: see :meth:`OpenVLAPolicy.from_pretrained`.
    """
    source, options = parse_spec(spec, _Options)
    world = options.opened()
    framing = None if world is None else world.config.framing
    settings = VlaSettings(options.unnorm_key, center_crop=options.center_crop, framing=framing)
    made = OpenVLAPolicy.from_pretrained(
        source,
        settings,
        trust_remote_code=options.trust_remote_code,
        device=options.device,
        dtype=options.dtype,
    )
    return options.fit(made, world)
