"""A policy on another machine, behind openpi's websocket protocol.

``ws://HOST:PORT`` and ``wss://HOST:PORT`` name one wherever a policy is named, with options after commas
(``ws://10.0.0.7:8000,execute=8``); ``remote:FILE.yaml`` takes ``url`` and all options from a file.

The protocol takes one observation a call. Slots are asked one after the other: openpi's server computes one
result at a time whatever its clients do, so that a batch of ``b`` slots costs ``b`` calls, each time that a
chunk of actions is used up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from v2w_gym.config import from_dict
from v2w_gym.data.framing import Framing
from v2w_gym.policies.base import Policy
from v2w_gym.policies.chunks import Chunked
from v2w_gym.policies.letterbox import resize_with_pad
from v2w_gym.policies.observations import batch_of
from v2w_gym.policies.redial import Lines, Redial
from v2w_gym.policies.remote_config import INSTRUCTION, RemoteConfig
from v2w_gym.policies.specs import parse_spec
from v2w_gym.wire.openpi import Endpoint


class RemotePolicy(Chunked):
    """Asks a policy server; a connection is made when the first episode begins.

    Args:
        url: ``ws://host:port`` or ``wss://host:port``.
        config: how to speak to it.
        framing: of the world, so that its black bars are taken off; None sends frames whole.

    Attributes:
        contract: what the actions mean, or None.

    Raises:
        ValueError: an address of another form, or a key that is not in the environment.
    """

    def __init__(self, url: str, config: RemoteConfig | None = None, framing: Framing | None = None) -> None:
        config = config or RemoteConfig()
        self.remote = RemoteSource(_endpoint(url, config), config, framing)
        super().__init__(self.remote, execute=config.execute, ensemble=config.ensemble)
        self.contract = config.stated()

    def close(self) -> None:
        """Close all connections; the next episode makes new ones."""
        self.remote.close()


class RemoteSource:
    """Chunks from a policy server, slot by slot. See :class:`RemotePolicy`.

    Args:
        endpoint: where.
        config: how to speak to it.
        framing: of the world, or None.
    """

    def __init__(self, endpoint: Endpoint, config: RemoteConfig, framing: Framing | None = None) -> None:
        self._url, self._config, self._framing = endpoint.url, config, framing
        self._lines = Lines(endpoint, config.connection, Redial(config.attempts, config.backoff_s))
        self._instructions: dict[int, str] = {}

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes; connections that are gone are made again.

        Raises:
            OutageError: the server cannot be reached, after all attempts.
        """
        self._instructions.update(zip(slots, instruction, strict=True))
        self._lines.begin(slots)

    def chunk(self, observation: Mapping[str, Any], slots: Sequence[int]) -> npt.NDArray[np.float32]:
        """Chunks ``(b, n, a)``, one call for each slot.

        Raises:
            OutageError: the server is gone or silent: nothing is known about its policy.
            FarSideError: the server answered with an error of its own.
            ValueError: an observation without what the server is to be sent, or an answer that is no chunk.
        """
        if batch_of(observation) != len(slots):
            raise ValueError(f"{batch_of(observation)} observations for {len(slots)} slots")
        requests = [self._request(observation, row, slot) for row, slot in enumerate(slots)]
        chunks = [
            self._actions(self._lines.call(slot, request))
            for slot, request in zip(slots, requests, strict=True)
        ]
        if len({chunk.shape for chunk in chunks}) > 1:
            raise ValueError(
                f"the policy server at {self._url} answered with chunks of different shapes: "
                f"{sorted({chunk.shape for chunk in chunks})}"
            )
        return np.stack(chunks)

    def close(self) -> None:
        """Close all connections."""
        self._lines.close()

    def _request(self, observation: Mapping[str, Any], row: int, slot: int) -> dict[str, Any]:
        """What one slot's observation is to the far policy."""
        request: dict[str, Any] = {
            key: np.asarray(numbers, dtype=np.float32) for key, numbers in self._config.constants.items()
        }
        for key, ours in self._config.observation.items():
            if ours == INSTRUCTION:
                if slot not in self._instructions:
                    raise ValueError(
                        "a remote policy is told its instruction by reset(instruction, slots) first"
                    )
                request[key] = self._instructions[slot]
                continue
            if ours not in observation:
                raise ValueError(
                    f"observation: {key}: {ours} names no entry of our observation, which has "
                    f"{', '.join(observation)}, and {INSTRUCTION}"
                )
            request[key] = self._sized(np.asarray(observation[ours][row]))
        return request

    def _sized(self, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if value.ndim != 3 or value.shape[-1] != 3 or value.dtype != np.uint8:
            return value  # no image
        if self._framing is not None and value.shape[:2] == self._framing.frame_size:
            value = self._framing.unpad(value)
        return value if self._config.resize is None else resize_with_pad(value, self._config.resize)

    def _actions(self, result: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """The chunk ``(n, a)`` in a server's result."""
        who, key, columns = f"the policy server at {self._url}", self._config.actions, self._config.columns
        if key not in result:
            raise ValueError(
                f"{who} answered without {key!r}; its keys are {', '.join(map(repr, result))}; "
                "which of them holds the actions? say so: actions"
            )
        actions = result[key]
        if not isinstance(actions, np.ndarray) or actions.ndim != 2 or not actions.size:
            got = (
                f"{actions.dtype} {actions.shape}"
                if isinstance(actions, np.ndarray)
                else type(actions).__name__
            )
            raise ValueError(f"{who} must answer with actions (horizon, action_dim), got {got}")
        if actions.dtype.kind not in "fiu":
            raise ValueError(f"{who} must answer with actions that are numbers, got {actions.dtype}")
        if columns is not None:
            if max(columns) >= actions.shape[1]:
                raise ValueError(
                    f"{who} answered with {actions.shape[1]} columns, columns={columns} wants more"
                )
            actions = actions[:, list(columns)]
        bad = np.argwhere(~np.isfinite(actions))
        if len(bad):
            raise ValueError(
                f"{who} answered with {actions[tuple(bad[0])]} in action {tuple(bad[0].tolist())}"
            )
        chunk: npt.NDArray[np.float32] = actions.astype(np.float32)
        return chunk


def from_spec(spec: str) -> Policy:
    """The policy of ``ws://HOST:PORT`` or ``wss://HOST:PORT``, with options, or ``remote:FILE.yaml``.

    Raises:
        ValueError: an unknown option, or a value out of range.
        FileNotFoundError: no such file.
        ContractMismatch: actions that cannot be made to fit the world that an option names.
    """
    target, config = parse_spec(spec, RemoteConfig)
    prefix = spec.partition(":")[0]
    if prefix != "remote":
        return _fitted(f"{prefix}:{target}", config)
    if config != RemoteConfig():
        raise ValueError(f"options of remote:{target} belong into that file")
    return load(target)


def load(path: str | Path) -> Policy:
    """The policy of a YAML file.

    Args:
        path: the file; it holds ``url`` and fields of :class:`~v2w_gym.policies.remote_config.RemoteConfig`.

    Raises:
        ValueError: an unknown key, or a value out of range.
        FileNotFoundError: no such file.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("url"), str):
        raise ValueError(f"{path} must hold url: ws://HOST:PORT beside its options")
    url = values.pop("url")
    return _fitted(url, from_dict(RemoteConfig, values, where=str(path)))


def _fitted(url: str, config: RemoteConfig) -> Policy:
    world = config.opened()
    return config.fit(RemotePolicy(url, config, None if world is None else world.config.framing), world)


def _endpoint(url: str, config: RemoteConfig) -> Endpoint:
    key = None
    if config.api_key_env is not None:
        key = os.environ.get(config.api_key_env)
        if not key:
            raise ValueError(f"no key for {url} in the environment; type: export {config.api_key_env}=...")
    return Endpoint(url, key, config.connect_timeout_s, config.call_timeout_s)
