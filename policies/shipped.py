"""The shipped policies of the drawer-closing world: unlike in kind, and from never to always successful.

Their true success is no guess: it is measured in Meta-World and stands in the world's ``reality.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from v2w_gym.policies import trained
from v2w_gym.policies.base import Policy
from v2w_gym.policies.simple import ConstantPolicy, RandomPolicy, StillPolicy
from v2w_gym.policies.wrappers import Biased, Delayed, Erratic, Scaled

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


def _trained(stem: str) -> Policy:
    return trained.load(WEIGHTS / f"{stem}.safetensors")


def _converged() -> Policy:
    return _trained("full-1500")


SHIPPED: dict[str, Shipped] = {
    "converged": Shipped("cloned from 250 demonstrations, trained to the end", _converged),
    "stage-140": Shipped("the same training, step 140 of 1500", lambda: _trained("full-0140")),
    "stage-080": Shipped("the same training, step 80 of 1500", lambda: _trained("full-0080")),
    "stage-020": Shipped(
        "the same training run again, step 20: hardly looks at the frame", lambda: _trained("full-0020")
    ),
    "one-demo": Shipped("cloned from a single clean demonstration", lambda: _trained("one-0300")),
    "blind": Shipped(
        "cloned from an expert that believes the drawer in the middle", lambda: _trained("blind-0600")
    ),
    "linear": Shipped(
        "a linear map of a 16x16 frame, fitted to 100 demonstrations", lambda: _trained("linear")
    ),
    "nearest": Shipped(
        "does what was right in the three most similar of 320 frames", lambda: _trained("nearest")
    ),
    "replay": Shipped("one demonstration's actions again, whatever it sees", lambda: _trained("replay")),
    "delayed": Shipped("converged, but sees what was six frames ago", lambda: Delayed(_converged(), 6)),
    "biased": Shipped("converged, with a drift to the left", lambda: Biased(_converged(), [-0.6, 0, 0, 0])),
    "half-speed": Shipped("converged, every action halved", lambda: Scaled(_converged(), 0.5)),
    "erratic-30": Shipped("converged, 30 % of its actions random", lambda: Erratic(_converged(), 0.3)),
    "erratic-60": Shipped("converged, 60 % of its actions random", lambda: Erratic(_converged(), 0.6)),
    "random": Shipped("uniform random actions", RandomPolicy),
    "sideways": Shipped("pushes to the right and ahead", lambda: ConstantPolicy([1.0, 0.5, 0.0, 0.0])),
    "still": Shipped("does nothing", StillPolicy),
}
