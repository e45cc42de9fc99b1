"""The shipped policies of the drawer-closing world: unlike in kind, and from never to always successful.

Their true success is no guess: it is measured in Meta-World and stands in the world's ``reality.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from v2w_gym.policies.base import Policy
from v2w_gym.policies.cnn import CnnPolicy

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Shipped:
    """One shipped policy.

    Attributes:
        description: what it is, in a line.
        make: makes a fresh one.
    """

    description: str
    make: Callable[[], Policy]


def _cnn(stem: str) -> CnnPolicy:
    return CnnPolicy.load(WEIGHTS / f"{stem}.safetensors")


def _converged() -> CnnPolicy:
    return _cnn("full-1500")


SHIPPED: dict[str, Shipped] = {
    "converged": Shipped("cloned from 250 demonstrations, trained to the end", _converged),
}
