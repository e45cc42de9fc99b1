"""A session's request on its way through the batch, and what comes of its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.envs.requests import Request
from v2w_gym.serve.sessions import Session


@dataclass(eq=False)
class Job:
    """One request.

    Attributes:
        session: whose.
        op: what is asked.
        fields: of the message.
        answer: the result, or what went wrong; None while it is under way.
        request: what a reset asks for, checked.
        rng: what it draws from; the session's own only once the reset has come about.
        vectors: ``(k, a)``, actions of a step or a chunk, checked.
        gone: whether who asked has left.
        played: a record for each step taken; rewards and numbers of one slot, and its frame.
    """

    session: Session
    op: str
    fields: Mapping[str, Any]
    answer: dict[str, Any] | Exception | None = None
    request: Request | None = None
    rng: np.random.Generator | None = None
    vectors: npt.NDArray[np.float32] | None = None
    gone: Callable[[], bool] = lambda: False
    played: list[dict[str, Any]] = field(default_factory=list)

    @property
    def fresh(self) -> bool:
        """Nobody has looked at it yet."""
        return self.answer is None and self.request is None and self.vectors is None

    @property
    def to_reset(self) -> bool:
        """It waits for its episode to begin."""
        return self.answer is None and self.request is not None

    @property
    def to_step(self) -> bool:
        """It waits for its next step."""
        return self.answer is None and self.vectors is not None

    @property
    def vector(self) -> npt.NDArray[np.float32]:
        """``(a,)``, the next action."""
        assert self.vectors is not None
        vector: npt.NDArray[np.float32] = self.vectors[len(self.played)]
        return vector

    def outcome(self) -> dict[str, Any]:
        """Reward, flags and, of a chunk, its steps: after the end it stays as it was and earns nothing."""
        assert self.vectors is not None
        last, executed = self.played[-1], len(self.played)
        flags = {name: bool(last[name]) for name in ("terminated", "truncated")}
        if self.op == "step":
            return {"reward": float(last["reward"]), **flags}
        left = len(self.vectors) - executed
        steps = [*self.played, *[last] * left]
        chunk: dict[str, Any] = {
            name: np.stack([s[name] for s in steps]) for name in last if name != "reward"
        }
        rewards = np.array([step["reward"] for step in self.played] + [0.0] * left)
        return {"reward": rewards, **flags, "chunk": {**chunk, "executed": executed}}
