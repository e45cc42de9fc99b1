"""How to speak to a policy on another machine, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from v2w_gym.config import load
from v2w_gym.policies.contract import ActionContract
from v2w_gym.policies.fit import Fit

INSTRUCTION = "instruction"
"""What stands for the text in an observation mapping."""


@dataclass(frozen=True)
class RemoteConfig(Fit):
    """How to speak to a far policy; ``world``, ``gripper`` and ``clip`` are those of ``Fit``.

    Attributes:
        observation: the far policy's keys, each with the entry of our observation that it gets, or with
            ``"instruction"``, the text.
        constants: further keys with fixed numbers, for what no camera shows, such as the state of an arm.
        resize: images become squares of so many pixels, padded with black, as openpi's client does with 224;
            None sends them as they are. openpi's servers resize by themselves, too.
        actions: the key of the result that holds the actions ``(n, a)``.
        columns: which of their columns are our action, in our order; None takes all.
        contract: what these columns mean, or a YAML file that says so; None is not stated.
        execute: actions of a chunk that are done before the policy is asked again.
        ensemble: see :class:`~v2w_gym.policies.chunks.Chunked`.
        connection: ``"shared"`` has one for all slots, right for policies that keep nothing between calls, as
            openpi's do; ``"episode"`` has one for each slot, renewed in every episode; ``"auto"`` does what
            the server's metadata says, and ``"shared"`` where it says nothing.
        api_key_env: the environment variable that holds the key for the server.
        connect_timeout_s: seconds until the connection stands.
        call_timeout_s: seconds for one result; the first one of a freshly started openpi server compiles.
        attempts: how often a connection is tried, the first time included.
        backoff_s: seconds before the second attempt, twice as long before each further one.

    Raises:
        ValueError: a value out of range.
    """

    observation: Mapping[str, str] = field(
        default_factory=lambda: {"observation/image": "pixels", "prompt": INSTRUCTION}
    )
    constants: Mapping[str, Sequence[float]] = field(default_factory=dict)
    resize: int | None = None
    actions: str = "actions"
    columns: tuple[int, ...] | None = None
    contract: ActionContract | str | None = None
    execute: int = 1
    ensemble: float | None = None
    connection: Literal["auto", "shared", "episode"] = "auto"
    api_key_env: str | None = None
    connect_timeout_s: float = 10.0
    call_timeout_s: float = 60.0
    attempts: int = 3
    backoff_s: float = 1.0

    def __post_init__(self) -> None:
        _check_texts("observation", self.observation)
        if not isinstance(self.constants, Mapping):
            raise ValueError(f"constants must be a map of keys to lists of numbers, got {self.constants!r}")
        for key, numbers in self.constants.items():
            if not np.isfinite(np.asarray(numbers, dtype=np.float32)).all():
                raise ValueError(f"constants[{key!r}] must be finite numbers, got {numbers!r}")
        if self.resize is not None and not 1 <= self.resize <= 4096:
            raise ValueError(f"resize must be a side in pixels, such as 224, got {self.resize}")
        if self.columns is not None and (not self.columns or min(self.columns) < 0):
            raise ValueError(f"columns must be places from 0 on, such as [0, 1, 2, 6], got {self.columns}")
        if self.attempts < 1 or self.backoff_s < 0:
            raise ValueError(
                f"attempts must be at least 1 and backoff_s at least 0, got {self.attempts} and "
                f"{self.backoff_s}"
            )

    def stated(self) -> ActionContract | None:
        """The contract, read from its file if need be.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file that holds something else.
        """
        return load(ActionContract, self.contract) if isinstance(self.contract, str) else self.contract


def _check_texts(name: str, mapping: Mapping[str, str]) -> None:
    if not isinstance(mapping, Mapping) or not all(
        isinstance(part, str) for item in mapping.items() for part in item
    ):
        raise ValueError(
            f'{name} must map keys to keys, as {{"observation/image": "pixels"}}, got {mapping!r}'
        )
