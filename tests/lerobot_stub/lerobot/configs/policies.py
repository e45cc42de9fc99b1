"""As ``lerobot/configs/policies.py``: ``config.json`` with its type and its features."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Feature:
    type: str
    shape: tuple


@dataclass
class PreTrainedConfig:
    type: str
    input_features: dict = field(default_factory=dict)
    output_features: dict = field(default_factory=dict)
    n_obs_steps: int = 1
    n_action_steps: int = 1
    chunk_size: int = 4
    device: str = "cpu"
    use_amp: bool = False

    @classmethod
    def from_pretrained(cls, pretrained_name_or_path, **policy_kwargs):
        if not Path(pretrained_name_or_path).is_dir() or "config.json" not in os.listdir(
            pretrained_name_or_path
        ):
            raise FileNotFoundError(f"config.json not found in {pretrained_name_or_path}")
        values = json.loads((Path(pretrained_name_or_path) / "config.json").read_text())
        for name in ("input_features", "output_features"):
            values[name] = {key: Feature(**feature) for key, feature in values.get(name, {}).items()}
        return cls(**values)

    def _one(self, features, kind, name=None):
        found = [f for key, f in features.items() if f.type == kind and name in (None, key)]
        return found[0] if found else None

    @property
    def image_features(self):
        return {key: f for key, f in self.input_features.items() if f.type == "VISUAL"}

    @property
    def robot_state_feature(self):
        return self._one(self.input_features, "STATE", "observation.state")

    @property
    def env_state_feature(self):
        return self._one(self.input_features, "ENV")

    @property
    def action_feature(self):
        return self._one(self.output_features, "ACTION", "action")
