"""A LeRobot checkpoint's parts, called in the order in which LeRobot's evaluator calls them.

Source: LeRobot 7427f3180 (0.6.2), ``scripts/lerobot_eval.py::rollout``, ``policies/factory.py`` and, for
chunks, ``async_inference/policy_server.py``.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Pipeline = Callable[[Any], Any]


@dataclass(frozen=True)
class LeRobotParts:
    """What is called for an action.

    Attributes:
        policy: a ``lerobot.policies.PreTrainedPolicy``.
        preprocessor: the policy's, saved with it: renames, normalises, tokenises, moves to its device.
        postprocessor: the policy's: undoes the normalisation of actions.
        env_preprocessor: of a LeRobot ``EnvConfig``; None changes nothing, as LeRobot's default.
        env_postprocessor: likewise; it takes and gives ``{"action": action}``.
    """

    policy: Any
    preprocessor: Pipeline
    postprocessor: Pipeline
    env_preprocessor: Pipeline | None = None
    env_postprocessor: Pipeline | None = None

    def reset(self) -> None:
        """Forget the episode: queues of the policy, and what steps of its pipelines remember."""
        self.policy.reset()
        for pipeline in (self.preprocessor, self.postprocessor):
            if hasattr(pipeline, "reset"):
                pipeline.reset()

    def copied(self) -> LeRobotParts:
        """The same with queues of its own; weights are shared.

        Pipelines are copied together with the policy, since a step of one may look at a step of another.
        """
        weights = (*self.policy.parameters(), *self.policy.buffers())
        fields = (
            self.policy,
            self.preprocessor,
            self.postprocessor,
            self.env_preprocessor,
            self.env_postprocessor,
        )
        return LeRobotParts(*copy.deepcopy(fields, {id(tensor): tensor for tensor in weights}))

    def action(self, observation: Mapping[str, Any], task: list[str]) -> torch.Tensor:
        """One action per row ``(b, a)``, on the CPU, for an environment's observation of numpy arrays."""
        with self._inference():
            return self._finished(self.policy.select_action(self._batch(observation, task)))

    def chunk(self, observation: Mapping[str, Any], task: list[str]) -> torch.Tensor:
        """Chunks ``(b, n, a)``, on the CPU; processed step by step, as LeRobot's own server does it."""
        with self._inference():
            planned = self.policy.predict_action_chunk(self._batch(observation, task))
            if planned.ndim != 3:
                raise ValueError(f"predict_action_chunk must give (b, n, a), got {tuple(planned.shape)}")
            return torch.stack([self._finished(planned[:, i]) for i in range(planned.shape[1])], dim=1)

    def _batch(self, observation: Mapping[str, Any], task: list[str]) -> Any:
        from lerobot.envs.utils import preprocess_observation

        batch = preprocess_observation(dict(observation))
        batch["task"] = task
        if self.env_preprocessor is not None:
            batch = self.env_preprocessor(batch)
        return self.preprocessor(batch)

    def _finished(self, action: Any) -> torch.Tensor:
        action = self.postprocessor(action)
        if self.env_postprocessor is not None:
            action = self.env_postprocessor({"action": action})["action"]
        found: torch.Tensor = action.to("cpu")
        if found.ndim != 2:
            raise ValueError(f"the postprocessor must give actions (b, a), got {tuple(found.shape)}")
        return found

    @contextlib.contextmanager
    def _inference(self) -> Any:
        config = self.policy.config
        kind = torch.device(getattr(config, "device", None) or "cpu").type
        with torch.inference_mode(), torch.autocast(kind, enabled=bool(getattr(config, "use_amp", False))):
            yield


def load_parts(
    folder_or_id: str | Path, device: str, rename: Mapping[str, str] | None = None
) -> LeRobotParts:
    """A checkpoint's policy and pipelines.

    Args:
        folder_or_id: a folder with ``config.json``, ``model.safetensors`` and the two pipelines, or a hub id.
        device: where it runs.
        rename: observation names to those that the policy was trained with, as ``--rename_map`` of LeRobot.

    Raises:
        ImportError: LeRobot is not installed.
        ValueError: LeRobot cannot load it.
    """
    check_installed()
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    overrides: dict[str, dict[str, Any]] = {"device_processor": {"device": device}}
    if rename:
        overrides["rename_observations_processor"] = {"rename_map": dict(rename)}
    try:
        config = PreTrainedConfig.from_pretrained(str(folder_or_id))
        config.device = device
        policy = get_policy_class(config.type).from_pretrained(str(folder_or_id), config=config)
        preprocessor, postprocessor = make_pre_post_processors(
            policy_cfg=config, pretrained_path=str(folder_or_id), preprocessor_overrides=overrides
        )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"LeRobot could not load {folder_or_id}: {error}") from error
    return LeRobotParts(policy, preprocessor, postprocessor)


def check_installed() -> None:
    """Raise ``ImportError`` with what to type unless LeRobot is there."""
    try:
        importlib.import_module("lerobot")
    except ImportError as error:
        raise ImportError(
            "LeRobot policies need LeRobot, whose present releases need Python 3.12: "
            'pip install "lerobot>=0.4". On an older Python, serve the policy from an environment of its own '
            "(v2w serve-policy) and name its address here: ws://HOST:PORT"
        ) from error
