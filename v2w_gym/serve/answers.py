"""One policy that answers one observation at a time, as openpi's clients ask."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from v2w_gym.data.episode import ActionArray, FrameArray
from v2w_gym.policies.base import Policy
from v2w_gym.policies.chunks import Chunked

_SLOT = 0


@dataclass(frozen=True)
class Keys:
    """Under which names a client sends what the policy looks at.

    Attributes:
        image: uint8 ``(h, w, 3)``, RGB.
        prompt: the instruction.
    """

    image: str = "observation/image"
    prompt: str = "prompt"


class Answers:
    """A policy that answers one observation at a time.

    Args:
        policy: of a :class:`Chunked` one, whole chunks are handed out, and the client walks along them.
        keys: of an observation.
        seed: of a policy that is random.
        lock: held while the policy computes, where it answers others, too.
        renew: every observation begins an episode, since the last one may have been somebody else's.
    """

    def __init__(
        self,
        policy: Policy,
        keys: Keys,
        seed: int,
        lock: contextlib.AbstractContextManager[Any] | None = None,
        *,
        renew: bool = False,
    ) -> None:
        self._source: Any = policy.source if isinstance(policy, Chunked) else policy
        self._keys, self._renew = keys, renew
        self._lock = lock or contextlib.nullcontext()
        self._prompt: str | None = None
        seeded = getattr(self._source, "seed", None)
        if callable(seeded):  # many a policy keeps a number under that name
            seeded([seed])

    def actions(self, observation: Any) -> ActionArray:
        """Actions ``(n, a)`` for an observation of the client's.

        Raises:
            ValueError: an observation without what the policy looks at, or a policy that returns junk.
        """
        image, prompt = self._parts(observation)
        with self._lock:
            if self._renew or prompt != self._prompt:
                self._begin(prompt)
            batch = {"pixels": image[None]}
            made = (
                self._source.chunk(batch, [_SLOT])
                if hasattr(self._source, "chunk")
                else np.asarray(self._source.act(batch))[:, None]
            )
        actions: ActionArray = np.asarray(made, dtype=np.float32)
        if actions.ndim != 3 or len(actions) != 1 or not np.isfinite(actions).all():
            raise ValueError(
                f"the policy returned no finite action for one observation, got shape {actions.shape}"
            )
        chunk: ActionArray = actions[0]
        return chunk

    def _begin(self, prompt: str) -> None:
        self._prompt = prompt
        if callable(getattr(self._source, "reset", None)):
            self._source.reset([prompt], [_SLOT])

    def _parts(self, observation: Any) -> tuple[FrameArray, str]:
        image, prompt = self._keys.image, self._keys.prompt
        known = list(observation) if isinstance(observation, dict) else type(observation).__name__
        if not isinstance(observation, dict) or image not in observation or prompt not in observation:
            raise ValueError(f"an observation needs {image!r} and {prompt!r}, got {known}")
        pixels, text = observation[image], observation[prompt]
        is_array = isinstance(pixels, np.ndarray)
        if not is_array or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
            got = f"{pixels.dtype} {pixels.shape}" if is_array else type(pixels).__name__
            raise ValueError(f"{image!r} must be one uint8 image (h, w, 3), got {got}")
        if not isinstance(text, str):
            raise ValueError(f"{prompt!r} must be a text, got {type(text).__name__}")
        return pixels, text
