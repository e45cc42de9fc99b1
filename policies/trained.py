"""Policies in the files that ``v2w train policies`` writes, whatever their kind."""

from __future__ import annotations

from pathlib import Path

from v2w_gym.policies import shallow
from v2w_gym.policies.base import Policy
from v2w_gym.policies.cnn import CnnPolicy
from v2w_gym.policies.stored import read_policy


def load(path: str | Path) -> Policy:
    """A network, or a policy without one, from its ``.safetensors`` file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged or foreign file.
    """
    _, metadata = read_policy(path)
    return shallow.load(path) if "kind" in metadata else CnnPolicy.load(path)
