"""Policies that see only pixels, and the protocol by which your own joins. Import as ``v2w_gym.policies``."""

from v2w_gym.policies.base import Policy
from v2w_gym.policies.registry import load, names, resolve

__all__ = ["Policy", "load", "names", "resolve"]
