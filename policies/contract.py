"""What the numbers of an action mean, said on both sides and compared before the first episode.

A policy says it in an attribute ``contract``; what a world expects follows from its ``world.json``. What
either side does not state (None) cannot be compared: :func:`check_contract` returns which fields those are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from v2w_gym.envs.action_spec import ActionFrame, ActionMode, ActionSpec
from v2w_gym.envs.grippers import GRIPPERS, Gripper
from v2w_gym.envs.world import World, WorldConfig
from v2w_gym.policies.normaliser import Normaliser


@dataclass(frozen=True)
class ActionContract:
    """What ``act`` returns, or what ``env.step`` takes.

    Attributes:
        names: of the components, in order.
        units: of the components, in order, once their normalisation is undone; one text for all, or one each.
            ``"centimetres per step"``, ``"degrees per step"`` and the like are understood; ``"1"`` is a bare
            number.
        low: smallest value of each component, in its unit; None is not stated, as with all that follows.
        high: largest value, likewise.
        frame: in which frame motions are measured.
        mode: ``"delta"``: a motion is a change of the pose; ``"absolute"``: it is the pose to reach.
        rate: actions per second.
        gripper: what the number of the component called ``gripper...`` means.
        normaliser: how numbers stand for values, and where that comes from.

    Raises:
        ValueError: fields that contradict each other.
    """

    names: tuple[str, ...]
    units: str | tuple[str, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    frame: ActionFrame | None = None
    mode: ActionMode | None = None
    rate: float | None = None
    gripper: Gripper | None = None
    normaliser: Normaliser = field(default_factory=Normaliser)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        given = (self.units,) * len(self.names) if isinstance(self.units, str) else tuple(self.units)
        object.__setattr__(self, "units", given)
        count = len(self.names)
        if not count or len(set(self.names)) < count:
            raise ValueError(f"a contract needs names, each once, got {list(self.names)}")
        for name in ("units", "low", "high"):
            column = getattr(self, name)
            if column is not None and len(column) != count:
                raise ValueError(f"a contract of {count} components needs as many {name}, got {len(column)}")
        if self.low is not None and self.high is not None:
            for name, low, high in zip(self.names, self.low, self.high, strict=True):
                if not low <= high:
                    raise ValueError(f"the low of {name} must not lie above its high, got {low} and {high}")
        if self.normaliser.count not in (0, count):
            raise ValueError(
                f"the normaliser is for {self.normaliser.count} components, the contract has {count} names"
            )
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"rate must be actions per second, above 0, got {self.rate}")
        if self.gripper is not None and self.gripper not in GRIPPERS:
            raise ValueError(f"gripper must be one of {list(GRIPPERS)}, got {self.gripper!r}")
        if self.gripper is not None and self.gripper_index is None:
            raise ValueError(
                f"a contract with gripper={self.gripper!r} needs one component called gripper..., "
                f"got {list(self.names)}"
            )

    @property
    def gripper_index(self) -> int | None:
        """Place of the one component whose name begins with ``gripper``; None without one."""
        places = [i for i, name in enumerate(self.names) if name.startswith("gripper")]
        return places[0] if len(places) == 1 else None

    @property
    def unit(self) -> tuple[str, ...]:
        """The unit of each component."""
        assert not isinstance(self.units, str)  # __post_init__ has spread it
        return self.units

    @classmethod
    def of_spec(cls, spec: ActionSpec, rate: float | None = None, file: str | None = None) -> ActionContract:
        """The contract of an environment with these actions.

        Args:
            spec: of the environment.
            rate: actions per second.
            file: where the spec stands.
        """
        normaliser = Normaliser(data=spec.data, file=file)
        if spec.kind == "normalised":
            normaliser = Normaliser("bounds", spec.low, spec.high, data=spec.data, file=file)
        return cls(
            spec.names, spec.units, spec.low, spec.high, spec.frame, spec.mode, rate, spec.gripper, normaliser
        )


class ContractMismatch(ValueError):  # noqa: N818 - what it is called
    """The numbers that a policy gives are not those that the world takes.

    Attributes:
        fields: which fields of the contract differ.
    """

    def __init__(self, text: str, fields: tuple[str, ...]) -> None:
        super().__init__(text)
        self.fields = fields


def world_contract(world: World | WorldConfig | ActionContract) -> ActionContract:
    """What ``env.step`` of a world takes; each of its actions moves one frame on, so its rate is its fps."""
    if isinstance(world, ActionContract):
        return world
    config = world.config if isinstance(world, World) else world
    return ActionContract.of_spec(config.action, config.fps, f"world.json of {config.name}")


def policy_contract(policy: Any) -> ActionContract:
    """The contract of a policy, or the contract itself.

    Raises:
        ValueError: the policy states none.
        TypeError: its ``contract`` is something else.
    """
    found = policy if isinstance(policy, ActionContract) else getattr(policy, "contract", None)
    if found is None:
        raise ValueError(
            f"{type(policy).__name__} does not say what its actions mean; set policy.contract = "
            "v2w_gym.policies.contract.ActionContract(names=..., units=...)"
        )
    if not isinstance(found, ActionContract):
        raise TypeError(f"the contract of a policy must be an ActionContract, got {type(found).__name__}")
    return found


def check_contract(policy: Any, world: World | WorldConfig | ActionContract) -> tuple[str, ...]:
    """Refuse a policy whose numbers mean something else than the world takes them for.

    Args:
        policy: an object with ``contract``, or the contract.
        world: an opened world, its config, or a contract.

    Returns:
        Fields that could not be compared, because one side does not state them.

    Raises:
        ContractMismatch: names each field that differs, what was got, what was expected, and the line that
            fixes it.
        ValueError: the policy states no contract.
    """
    from v2w_gym.policies.differences import compare  # which itself needs contracts

    differing, unstated = compare(policy_contract(policy), world_contract(world))
    if differing:
        lines = "".join(f"\n  {difference}" for difference in differing)
        text = (
            f"the policy's actions are not those that the world takes:{lines}\n"
            "(from v2w_gym.policies import adapt, Repeated, with_data, world_contract)"
        )
        raise ContractMismatch(text, tuple(difference.field for difference in differing))
    return unstated


def check_contracts(policies: Mapping[str, Any], world: World | WorldConfig) -> None:
    """:func:`check_contract` for every policy that states a contract.

    Raises:
        ContractMismatch: for the first that differs, with its name.
    """
    for name, policy in policies.items():
        if getattr(policy, "contract", None) is None:
            continue
        try:
            check_contract(policy, world)
        except ContractMismatch as error:
            raise ContractMismatch(f"policy {name!r}: {error}", error.fields) from error


def with_data(contract: ActionContract, data: str | None) -> ActionContract:
    """The same contract with the statistics of ``data``, or of data that is not stated."""
    return replace(contract, normaliser=replace(contract.normaliser, data=data))
