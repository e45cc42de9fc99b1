"""Two action contracts, field by field: what differs, and what to type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from v2w_gym.envs.arm import arm_spec
from v2w_gym.envs.domains import RT1_ACTIONS
from v2w_gym.envs.grippers import GRIPPERS, Gripper
from v2w_gym.policies import units
from v2w_gym.policies.contract import ActionContract

ADAPT = "adapt(policy, world)"
_POSE = "no line does it, since an imagined world has no robot whose pose could be asked for"


@dataclass(frozen=True)
class Difference:
    """One field that differs.

    Attributes:
        field: of the contract.
        got: what the policy gives.
        expected: what the world takes.
        fix: the line to type, or why there is none.
    """

    field: str
    got: str
    expected: str
    fix: str

    def __str__(self) -> str:
        return f"{self.field}: got {self.got}, expected {self.expected}; {self.fix}"


def compare(policy: ActionContract, world: ActionContract) -> tuple[list[Difference], tuple[str, ...]]:
    """What differs, and the fields that one side does not state."""
    unstated = _unstated(policy, world)
    if is_arm_for_rt1(policy, world):
        seven = arm_target(world)
        beyond = compare(policy, seven)[0] if policy.names == seven.names else _whole(policy, world)
        return [*_names(policy, world), *beyond], unstated
    if policy.names != world.names:
        return [*_names(policy, world), *_whole(policy, world)], unstated
    found = [*_units(policy, world), *_range(policy, world), *_gripper(policy, world)]
    found += [*_whole(policy, world), *_normaliser(policy, world)]
    return found, unstated


def is_arm_for_rt1(policy: ActionContract, world: ActionContract) -> bool:
    """Whether seven numbers of an arm meet the thirteen of RT-1, in RT-1's own units."""
    if set(policy.names) != set(arm_spec().names) or world.names != RT1_ACTIONS.names:
        return False
    alike = all(units.factor(*pair) == 1.0 for pair in zip(RT1_ACTIONS.units, world.unit, strict=True))
    return alike and world.normaliser.kind == "none" and world.gripper in (None, RT1_ACTIONS.gripper)


def arm_target(world: ActionContract) -> ActionContract:
    """The seven numbers of which ``ArmMapping`` makes what an RT-1 world takes, else like ``world``."""
    arm = ActionContract.of_spec(arm_spec("closing"), world.rate)
    return replace(arm, frame=world.frame, mode=world.mode, normaliser=world.normaliser)


def _unstated(policy: ActionContract, world: ActionContract) -> tuple[str, ...]:
    def silent(*fields: str) -> bool:
        return any(getattr(side, name) is None for side in (policy, world) for name in fields)

    missing = ["range"] if silent("low", "high") else []
    missing += [name for name in ("frame", "mode", "rate") if silent(name)]
    if world.gripper_index is not None and silent("gripper"):
        missing.append("gripper")
    if policy.normaliser.data is None or world.normaliser.data is None:
        missing.append("normaliser.data")
    return tuple(missing)


def _names(policy: ActionContract, world: ActionContract) -> Iterator[Difference]:
    if set(policy.names) == set(world.names) or is_arm_for_rt1(policy, world):
        fix = f"type {ADAPT}"
    else:
        lacking = [name for name in world.names if name not in policy.names]
        beyond = [name for name in policy.names if name not in world.names]
        fix = (
            f"the policy lacks {lacking} and has {beyond} beside; if these are other words for the same, "
            "type dataclasses.replace(policy.contract, names=(...)), else return the world's components"
        )
    yield Difference("names", str(list(policy.names)), str(list(world.names)), fix)


def _units(policy: ActionContract, world: ActionContract) -> Iterator[Difference]:
    for name, got, wanted in zip(policy.names, policy.unit, world.unit, strict=True):
        by = units.factor(got, wanted)
        if by == 1.0:
            continue
        if by is not None:
            fix = f"type {ADAPT}"
        elif got == "1" and world.normaliser.kind == "bounds":
            fix = (
                "if its numbers are this very world's -1..1, type policy.contract = world_contract(world), "
                "else state the unit"
            )
        else:
            fix = "no factor is known between them; convert in `act`"
        yield Difference("units", f"{name} in {got!r}", f"{wanted!r}", fix)


def _range(policy: ActionContract, world: ActionContract) -> Iterator[Difference]:
    if policy.low is None or policy.high is None or world.low is None or world.high is None:
        return
    for i, name in enumerate(policy.names):
        by = units.factor(policy.unit[i], world.unit[i])
        turned = i == world.gripper_index and unlike_grippers(policy, world)
        if by is None or turned:
            continue  # told already
        low, high, slack = policy.low[i] * by, policy.high[i] * by, 1e-6 * (world.high[i] - world.low[i])
        if low < world.low[i] - slack or high > world.high[i] + slack:
            unit = "" if world.unit[i] == "1" else f" {world.unit[i]}"
            yield Difference(
                "range",
                f"{name} in {low:.4g}..{high:.4g}{unit}",
                f"{world.low[i]:.4g}..{world.high[i]:.4g}{unit}",
                "type adapt(policy, world, clip=True), which cuts off what lies beyond",
            )


def unlike_grippers(policy: ActionContract, world: ActionContract) -> tuple[Gripper, Gripper] | None:
    """What the gripper's number means to either, where both say so and it is not the same."""
    if policy.gripper is None or world.gripper is None or policy.gripper == world.gripper:
        return None
    return policy.gripper, world.gripper


def _gripper(policy: ActionContract, world: ActionContract) -> Iterator[Difference]:
    if (unlike := unlike_grippers(policy, world)) is None:
        return
    given, taken = (GRIPPERS[name] for name in unlike)
    yield Difference(
        "gripper",
        f"{unlike[0]!r} ({given.meaning})",
        f"{unlike[1]!r} ({taken.meaning})",
        gripper_fix(given.commands, taken.commands),
    )


def gripper_fix(given_commands: bool, taken_commands: bool) -> str:
    """What to type where two conventions meet, by whether each is a command or a state."""
    if given_commands == taken_commands:
        return f"type {ADAPT}"
    if taken_commands:
        return (
            'type adapt(policy, world, gripper="sticky") for a command at each change of state, held for '
            '15 steps as SIMPLER does it, or gripper="follow" for a command at every step'
        )
    return "no line does it, since a command to hold is no state; keep the state in `act`"


def _whole(policy: ActionContract, world: ActionContract) -> Iterator[Difference]:
    """Fields that hold for all components."""
    for name in ("frame", "mode"):
        got, wanted = getattr(policy, name), getattr(world, name)
        if got is not None and wanted is not None and got != wanted:
            yield Difference(name, repr(got), repr(wanted), _POSE)
    if policy.rate is not None and world.rate is not None and abs(policy.rate / world.rate - 1) > 1e-3:
        yield Difference("rate", f"{policy.rate:g} Hz", f"{world.rate:g} Hz", _rate_fix(policy, world))
    got, wanted = policy.normaliser.data, world.normaliser.data
    if got is not None and wanted is not None and got != wanted:
        fix = (
            f"un-normalise with the statistics of {wanted!r} (OpenVLA: unnorm_key={wanted!r}), or, if the "
            f"policy is meant for {got!r} and the values are right here all the same, say so: "
            "policy.contract = with_data(policy.contract, None)"
        )
        yield Difference("normaliser.data", repr(got), repr(wanted), fix)


def _rate_fix(policy: ActionContract, world: ActionContract) -> str:
    times = (world.rate or 1.0) / (policy.rate or 1.0)
    if times > 1 and abs(times - round(times)) < 1e-3:
        return (
            f"type Repeated(policy, {round(times)}), which asks once in {round(times)} steps and spreads "
            "motions over them"
        )
    if times < 1:
        return "no line does it: the policy wants frames between those that the world imagines"
    return f"no line does it: an action would have to be repeated {times:.3g} times"


def _normaliser(policy: ActionContract, world: ActionContract) -> Iterator[Difference]:
    if not policy.normaliser.agrees(world.normaliser, len(world.names)):
        yield Difference("normaliser", str(policy.normaliser), str(world.normaliser), f"type {ADAPT}")
