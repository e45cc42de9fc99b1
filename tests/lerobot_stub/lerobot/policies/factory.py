"""As ``lerobot/policies/factory.py``: the class of a policy, and its two pipelines."""

import json
from collections import deque
from pathlib import Path

import torch

import lerobot


class TinyPolicy(torch.nn.Module):
    """Plans ``chunk_size`` actions from the brightness of its frames, the state and a little noise.

    Its queue is the one of LeRobot's ACT: ``select_action`` asks for a chunk when it is empty, keeps
    ``n_action_steps`` of it with all rows of the batch, and ``reset`` empties it as a whole.
    """

    name = "tiny"

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = torch.nn.Parameter(torch.ones(config.action_feature.shape[0]))
        self.reset()

    @classmethod
    def from_pretrained(cls, pretrained_name_or_path, *, config=None, **kwargs):
        assert (Path(pretrained_name_or_path) / "model.safetensors").exists()
        policy = cls(config)
        policy.to(config.device)
        return policy.eval()

    def reset(self):
        lerobot.calls.append("reset")
        self._queue = deque(maxlen=self.config.n_action_steps)

    @torch.no_grad()
    def predict_action_chunk(self, batch):
        lerobot.calls.append("predict_action_chunk")
        assert torch.is_inference_mode_enabled()
        level = sum(batch[key].mean((1, 2, 3)) for key in self.config.image_features)
        if self.config.robot_state_feature is not None:
            level = level + batch["observation.state"].sum(1)
        level = level + torch.tensor([0.001 * len(text) for text in batch["task"]])
        level = level + 0.01 * torch.rand(len(level))
        later = 0.1 * torch.arange(self.config.chunk_size)
        return (level[:, None] + later)[..., None] * self.weight

    @torch.no_grad()
    def select_action(self, batch):
        lerobot.calls.append("select_action")
        if not self._queue:
            chunk = self.predict_action_chunk(batch)[:, : self.config.n_action_steps]
            self._queue.extend(chunk.transpose(0, 1))
        return self._queue.popleft()


class Pipeline:
    """A pipeline of one step, which multiplies, and notes that it was called."""

    def __init__(self, name, scale, folder):
        self.name, self.scale, self.folder = name, scale, folder

    def reset(self):
        lerobot.calls.append(f"{self.name}.reset")


class Preprocessor(Pipeline):
    def __call__(self, batch):
        lerobot.calls.append(self.name)
        assert "task" in batch, "the task is added before the preprocessor runs"
        return {k: v * self.scale if k.startswith("observation.image") else v for k, v in batch.items()}


class Postprocessor(Pipeline):
    def __call__(self, action):
        lerobot.calls.append(self.name)
        assert action.ndim == 2, "one action per row"
        return action * self.scale


def get_policy_class(name):
    if name != "tiny":
        raise ValueError(f"Policy type '{name}' is not available.")
    return TinyPolicy


def make_pre_post_processors(policy_cfg, pretrained_path=None, pretrained_revision=None, **kwargs):
    overrides = kwargs.pop("preprocessor_overrides", {})
    assert set(kwargs) <= {"postprocessor_overrides", "dataset_stats", "dataset_meta"}
    unknown = set(overrides) - {"device_processor", "rename_observations_processor"}
    if unknown:
        raise KeyError(f"Override keys {unknown} do not match any step")
    assert overrides["device_processor"]["device"] == policy_cfg.device
    folder = Path(pretrained_path)
    scales = json.loads((folder / "scales.json").read_text())
    return Preprocessor("preprocessor", scales["pre"], folder), Postprocessor(
        "postprocessor", scales["post"], folder
    )
