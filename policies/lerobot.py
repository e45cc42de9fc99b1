"""LeRobot policies with their pre- and post-processors."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2w_gym import config as configuration
from v2w_gym.policies.base import Policy
from v2w_gym.policies.chunks import Chunked
from v2w_gym.policies.contract import ActionContract
from v2w_gym.policies.fit import Fit
from v2w_gym.policies.lerobot_inputs import LeRobotInputs
from v2w_gym.policies.lerobot_parts import LeRobotParts, check_installed, load_parts
from v2w_gym.policies.observations import batch_of
from v2w_gym.policies.simple import Actions
from v2w_gym.policies.specs import parse_spec


class _LeRobot:
    """What both ways of asking share: instructions, seeds, inputs, the contract.

    Args:
        parts: of the checkpoint, see :func:`~v2w_gym.policies.lerobot_parts.load_parts`.
        inputs: what it sees.
        contract: what its actions mean; a checkpoint does not say. None is not compared with a world's.

    Raises:
        ImportError: LeRobot is not installed.
        ValueError: a contract of another number of components than the policy gives.
    """

    def __init__(
        self, parts: LeRobotParts, inputs: LeRobotInputs, contract: ActionContract | None = None
    ) -> None:
        check_installed()
        feature = parts.policy.config.action_feature
        if contract is not None and feature is not None and len(contract.names) != int(feature.shape[0]):
            raise ValueError(
                f"the policy gives {int(feature.shape[0])} numbers, its contract names {len(contract.names)}"
            )
        self.contract = contract
        self._parts, self._inputs = parts, inputs
        self._task: dict[int, str] = {}
        self._seeds: dict[int, int] = {}
        self._asked: dict[int, int] = {}

    def seed(self, seeds: Sequence[int]) -> None:
        """One seed per slot. LeRobot's policies draw from torch's global generator, which is put back."""
        self._seeds = {slot: int(seed) for slot, seed in enumerate(seeds)}

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``."""
        self._task |= dict(zip(slots, instruction, strict=True))
        self._asked |= dict.fromkeys(slots, 0)

    def _tasks(self, slots: Sequence[int]) -> list[str]:
        return [self._task.get(slot, "") for slot in slots]

    @contextlib.contextmanager
    def _drawing(self, slot: int) -> Iterator[None]:
        """Within, torch's global generators follow from the seed of ``slot`` and from how often it asked."""
        asked = self._asked.get(slot, 0)
        self._asked[slot] = asked + 1
        if slot not in self._seeds:
            yield
            return
        device = torch.device(getattr(self._parts.policy.config, "device", None) or "cpu")
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            state = np.random.SeedSequence([self._seeds[slot], asked]).generate_state(1)
            torch.manual_seed(int(state[0]))
            yield


class LeRobotPolicy(_LeRobot):
    """Asks ``select_action`` at every step, as LeRobot's evaluator does.

    A LeRobot policy keeps one queue of actions and frames, with a row for each slot, and empties it as a
    whole. So all slots begin together, unless ``per_slot`` gives each a queue of its own.

    Args:
        parts: of the checkpoint.
        inputs: what it sees.
        contract: what its actions mean.
        per_slot: one policy object per slot (weights are shared), asked one after the other: slots may begin
            at different times and do not depend on each other, at the cost of batches of one.
    """

    def __init__(
        self,
        parts: LeRobotParts,
        inputs: LeRobotInputs,
        contract: ActionContract | None = None,
        *,
        per_slot: bool = False,
    ) -> None:
        super().__init__(parts, inputs, contract)
        self._own: dict[int, LeRobotParts] | None = {} if per_slot else None
        self._fresh: set[int] = set()
        self._rows = 0

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``; without ``per_slot`` these are all slots of the next ``act``."""
        super().reset(instruction, slots)
        self._fresh |= set(slots)

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)`` for ``observation["pixels"]``, uint8 ``(b, h, w, 3)``.

        Raises:
            ValueError: some slots were reset and others were not, and they share a queue; frames that do not
                fit the policy.
        """
        slots = list(range(batch_of({"pixels": observation["pixels"]})))
        seen = self._inputs(observation)
        if self._own is not None:
            return self._one_by_one(seen, slots)
        self._begin(slots)
        with self._drawing(0):
            actions: Actions = self._parts.action(seen, self._tasks(slots)).float().numpy()
        return actions

    def _begin(self, slots: Sequence[int]) -> None:
        begun = self._fresh & set(slots)
        if begun == set(slots) or not self._rows:
            self._parts.reset()
        elif begun:
            raise ValueError(
                f"slots {sorted(begun)} begin an episode while {sorted(set(slots) - begun)} go on, but a "
                "LeRobot policy keeps one queue for all; take LeRobotPolicy(..., per_slot=True), or chunks "
                "with a phase per slot: lerobot_chunks(parts, inputs, execute=...)"
            )
        elif self._rows != len(slots):
            raise ValueError(
                f"the episodes began with {self._rows} slots, now there are {len(slots)}; call "
                "policy.reset(instruction, slots) for all of them first"
            )
        self._fresh.clear()
        self._rows = len(slots)

    def _one_by_one(self, seen: Mapping[str, Any], slots: Sequence[int]) -> Actions:
        assert self._own is not None
        rows = []
        for slot in slots:
            if slot not in self._own:
                self._own[slot] = self._parts.copied()
                self._fresh.add(slot)
            if slot in self._fresh:
                self._own[slot].reset()
            with self._drawing(slot):
                rows.append(self._own[slot].action(_row(seen, slot), self._tasks([slot])))
        self._fresh.clear()
        actions: Actions = torch.cat(rows).float().numpy()
        return actions


class LeRobotChunks(_LeRobot):
    """Asks ``predict_action_chunk``: a source of chunks for :class:`~v2w_gym.policies.chunks.Chunked`.

    Raises:
        ValueError: a policy that looks at several frames, which it collects in ``select_action`` alone.
    """

    def __init__(
        self, parts: LeRobotParts, inputs: LeRobotInputs, contract: ActionContract | None = None
    ) -> None:
        super().__init__(parts, inputs, contract)
        frames = int(getattr(parts.policy.config, "n_obs_steps", 1))
        if frames > 1:
            raise ValueError(
                f"this policy looks at {frames} frames (n_obs_steps), which it collects in select_action "
                "alone; take LeRobotPolicy(..., per_slot=True)"
            )
        parts.reset()

    def chunk(self, observation: Mapping[str, Any], slots: Sequence[int]) -> Any:
        """Chunks ``(b, n, a)`` float32 for the rows of ``observation``, which belong to ``slots``."""
        with self._drawing(slots[0]):
            return self._parts.chunk(self._inputs(observation), self._tasks(slots)).float().numpy()


def lerobot_chunks(
    parts: LeRobotParts,
    inputs: LeRobotInputs,
    contract: ActionContract | None = None,
    *,
    execute: int | None = None,
    ensemble: float | None = None,
) -> Chunked:
    """A policy that does what chunks say, each slot in its own phase.

    Args:
        parts: of the checkpoint.
        inputs: what it sees.
        contract: what its actions mean.
        execute: steps of a chunk that are done; None takes the policy's ``n_action_steps``.
        ensemble: see :class:`~v2w_gym.policies.chunks.Chunked`.

    Raises:
        ValueError: as :class:`LeRobotChunks` and ``Chunked``.
    """
    steps = execute if execute is not None else int(getattr(parts.policy.config, "n_action_steps", 1))
    return Chunked(LeRobotChunks(parts, inputs, contract), execute=steps, ensemble=ensemble)


def _row(seen: Mapping[str, Any], slot: int) -> dict[str, Any]:
    return {
        key: _row(value, slot) if isinstance(value, Mapping) else value[slot : slot + 1]
        for key, value in seen.items()
    }


def with_provenance(contract: ActionContract, folder: str | Path) -> ActionContract:
    """The contract with the hash of the numbers by which the checkpoint's postprocessor un-normalises."""
    files = sorted(Path(folder).glob("policy_postprocessor*.safetensors"))
    if not files or contract.normaliser.file is not None:
        return contract
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    names = ", ".join(file.name for file in files)
    return replace(contract, normaliser=replace(contract.normaliser, file=f"{names} sha256:{digest}"))


@dataclass(frozen=True)
class _Options(Fit):
    """Options of ``lerobot:FOLDER_OR_ID``."""

    device: str = "cpu"
    contract: str | None = None
    camera: str | None = None
    state: tuple[float, ...] | None = None
    per_slot: bool = False
    execute: int | None = None
    ensemble: float | None = None


def from_spec(spec: str) -> Policy:
    """``lerobot:FOLDER_OR_ID,state=0/0/0,execute=8,contract=actions.yaml,world=WORLD``.

    ``execute`` asks for chunks; without it ``select_action`` is asked at every step. ``contract`` is a YAML
    file with the fields of :class:`~v2w_gym.policies.contract.ActionContract`.

    Raises:
        ImportError: LeRobot is not installed.
        ValueError: LeRobot cannot load it, or the policy reads what an imagined world does not have.
    """
    source, options = parse_spec(spec, _Options)
    world = options.opened()
    if world is not None and options.contract is None:
        raise ValueError(
            "a LeRobot checkpoint does not say what its actions mean, so they cannot be made to fit a world; "
            "say it in a file: contract=actions.yaml"
        )
    parts = load_parts(source, options.device)
    framing = None if world is None else world.config.framing
    inputs = LeRobotInputs(parts.policy.config, options.state, options.camera, framing)
    stated = None if options.contract is None else configuration.load(ActionContract, options.contract)
    contract = None if stated is None else with_provenance(stated, source)
    if options.execute is None and options.ensemble is None:
        return options.fit(LeRobotPolicy(parts, inputs, contract, per_slot=options.per_slot), world)
    made = lerobot_chunks(parts, inputs, contract, execute=options.execute, ensemble=options.ensemble)
    return options.fit(made, world)
