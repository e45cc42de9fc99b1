"""A policy's numbers converted into a world's, and what stands around a policy passes on."""

import dataclasses
import re
from dataclasses import replace

import numpy as np
import pytest
from contracts import ARM, CONFIG, RT1, SEEN, SPEC, WORLD, Says, values
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from v2w_gym.envs.actions import BoxActions
from v2w_gym.envs.arm import ArmMapping
from v2w_gym.policies import units
from v2w_gym.policies.adapted import adapt
from v2w_gym.policies.contract import (
    ActionContract,
    ContractMismatch,
    check_contract,
    check_contracts,
)
from v2w_gym.policies.gripper import StickyGripper
from v2w_gym.policies.normaliser import Normaliser
from v2w_gym.policies.repeated import Repeated
from v2w_gym.policies.space_check import check_spaces
from v2w_gym.policies.wrappers import Biased, Delayed, Handicap


def test_units():
    assert units.factor("centimetres per step", "metres per action") == pytest.approx(0.01)
    assert units.factor("deg/step", "radians per step") == pytest.approx(np.pi / 180)
    assert units.factor("1", "1") == 1.0
    assert units.factor("metres", "radians") is None
    assert units.factor("metres per second", "metres per step") is None
    assert all(map(units.motion, ("inches per step", "1/action", "cm / step", "rad")))
    assert not any(map(units.motion, ("1", "metres per second", "superstep", "state")))


KINDS = st.sampled_from(["none", "bounds", "quantile", "mean_std"])
SIZES = st.floats(0.01, 100.0)


@st.composite
def contracts(draw):
    """A contract with the components of SPEC, said in any way that can be converted."""
    order = draw(st.permutations(range(3)))
    names = tuple(SPEC.names[i] for i in order)
    unit = [draw(st.sampled_from(["mm per step", "cm/action", "metres per step"])) for _ in range(2)] + ["1"]
    kind = draw(KINDS)
    low = tuple(-draw(SIZES) for _ in range(3))
    high = tuple(draw(SIZES) for _ in range(3))
    columns = {
        "none": {},
        "bounds": {"low": low, "high": high},
        "quantile": {"low": low, "high": high, "applied": (True, draw(st.booleans()), False)},
        "mean_std": {"mean": low, "std": high},
    }[kind]
    gripper = draw(st.sampled_from(["closing", "opening"]))
    units_in_order = tuple(unit[i] for i in order)
    return ActionContract(names, units_in_order, gripper=gripper, normaliser=Normaliser(kind, **columns))


def _same_values(contract, numbers):
    adapted = adapt(Says(contract, numbers), WORLD)
    check_contract(adapted, WORLD)
    got = values(WORLD, adapted.act(SEEN)[0].astype(np.float64))
    given_values = values(contract, np.asarray(numbers, np.float32))
    for name, value in zip(WORLD.names, got, strict=True):
        i = contract.names.index(name)
        wanted = given_values[i] * units.factor(contract.unit[i], WORLD.unit[WORLD.names.index(name)])
        if name == "gripper" and contract.gripper == "opening":
            wanted = -wanted
        assert value == pytest.approx(wanted, rel=1e-4, abs=1e-5)


NUMBERS = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3)


@settings(max_examples=150, deadline=None)
@given(contracts(), NUMBERS)
def test_adapted_actions_mean_the_same(contract, numbers):
    _same_values(contract, numbers)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(contracts(), NUMBERS)
def test_adapted_actions_mean_the_same_in_many_cases(contract, numbers):
    _same_values(contract, numbers)


def test_what_no_formula_converts_is_refused_by_adapt_too():
    for changes in ({"frame": "base"}, {"mode": "absolute"}, {"rate": 5.0}, {"units": ("ells", "cm", "1")}):
        with pytest.raises(ContractMismatch):
            adapt(Says(replace(WORLD, **changes), [0, 0, 0]), WORLD)
    with pytest.raises(ContractMismatch, match="lacks"):
        adapt(Says(replace(WORLD, names=("x", "y", "gripper")), [0, 0, 0]), WORLD)
    with pytest.raises(ContractMismatch, match="hold is no state"):
        adapt(Says(WORLD, [0, 0, 0]), replace(WORLD, gripper="openness"), gripper="follow")
    with pytest.raises(ValueError, match='must be "follow" or "sticky"'):
        adapt(Says(WORLD, [0, 0, 0]), WORLD, gripper="always")


def test_a_wider_range_is_cut_off_on_request():
    wide = replace(WORLD, low=(-0.08, -0.02, -1.0), normaliser=Normaliser())
    with pytest.raises(ContractMismatch, match="range"):
        adapt(Says(wide, [0, 0, 0]), WORLD)
    assert adapt(Says(wide, [-0.08, 0.01, 1]), WORLD, clip=True).act(SEEN)[0].tolist() == [-1, 0.5, 1]
    beyond = replace(wide, low=(0.05, -0.02, -1.0), high=(0.08, 0.02, 1.0))
    assert adapt(Says(beyond, [0.06, 0.0, 0]), WORLD, clip=True).act(SEEN)[0].tolist() == [1, 0, 0]


def test_seven_numbers_of_an_arm_meet_an_rt1_world_as_its_own_mapping_has_them():
    seven = [0.1, -0.2, 0.3, 0.05, 0, -0.1, 0.25]
    with pytest.raises(ContractMismatch, match=r'gripper="sticky"'):
        adapt(Says(ARM, seven), RT1)
    with pytest.raises(ContractMismatch) as caught:
        check_contract(ARM, RT1)
    assert caught.value.fields == ("names", "gripper")
    adapted = adapt(Says(replace(ARM, frame=None), seven), RT1, gripper="follow")
    assert check_contract(adapted, RT1) == ("frame",)
    np.testing.assert_allclose(adapted.act(SEEN)[0], ArmMapping("openness")(np.float32(seven)), atol=1e-6)


def test_an_arm_is_mapped_only_onto_the_numbers_that_rt1_itself_has():
    centimetres = tuple("cm per step" if unit.startswith("metres") else unit for unit in RT1.unit)
    bounds = Normaliser("bounds", RT1.low, RT1.high)
    for changes in ({"units": centimetres}, {"normaliser": bounds}, {"gripper": "opening"}):
        with pytest.raises(ContractMismatch, match="the policy lacks"):
            adapt(Says(replace(ARM, gripper="closing", low=None), [0] * 7), replace(RT1, **changes))


def test_a_sticky_gripper_commands_at_changes_and_holds():
    opened, closed = [0] * 6 + [1], [0] * 6 + [0]
    policy = Says(ARM, opened, opened, *[closed] * 20)
    adapted = adapt(policy, RT1, gripper="sticky")
    adapted.reset(["x", "y"], [0, 1])
    commands = np.stack([adapted.act(SEEN) for _ in range(20)])[:, :, RT1.gripper_index]
    assert (commands[:, 0] == [0, 0, *[1] * 15, 0, 0, 0]).all()  # opens never, closes for fifteen steps
    assert (commands[:, 0] == commands[:, 1]).all()
    adapted.reset(["x"], [1])
    policy.rows = [opened]
    assert adapted.act(SEEN)[:, RT1.gripper_index].tolist() == [-1.0, 0.0]  # slot 1 has forgotten


def test_sticky_gripper_hears_nothing_while_it_holds():
    gripper = StickyGripper(repeat=3)
    heard = [gripper.hold(np.array([c]))[0] for c in (0.2, 0.9, -1.0, -1.0, -1.0, 0.0)]
    assert heard == [0.2, 0.9, 0.9, 0.9, -1.0, -1.0]
    with pytest.raises(ValueError, match="at least 1"):
        StickyGripper(0)


def test_a_slow_policy_is_asked_rarely_and_its_motions_are_spread():
    slow = replace(WORLD, rate=5.0)
    policy = Says(slow, [1.0, -1.0, 1.0], [0.0, 0.0, -1.0])
    repeated = Repeated(policy, 4)
    assert check_contract(repeated, WORLD) == ()
    repeated.reset(["a", "b"], [0, 1])
    repeated.seed([1, 2])
    actions = np.stack([repeated.act(SEEN) for _ in range(5)])
    assert policy.asked == 2
    np.testing.assert_allclose(values(WORLD, actions[:4, 0]).sum(0)[:2], [0.04, -0.02], atol=1e-6)
    assert actions[:, 0, 2].tolist() == [1, 1, 1, 1, -1]
    repeated.reset(["a"], [1])  # slot 1 asks anew, slot 0 goes on
    before = actions[4, 0]
    assert (repeated.act(SEEN)[0] == before).all()
    assert policy.told[-1] == (["a"], [1])
    absolute = Repeated(Says(replace(slow, mode="absolute"), [1.0, -1.0, 1.0]), 4)
    assert absolute.act(SEEN)[0].tolist() == [1.0, -1.0, 1.0]
    speeds = replace(slow, units=("metres per second", "degrees / s", "1"))
    assert Repeated(Says(speeds, [1.0, -1.0, 1.0]), 4).act(SEEN)[0].tolist() == [1.0, -1.0, 1.0]
    with pytest.raises(ValueError, match="mode="):
        Repeated(Says(replace(slow, mode=None), [0, 0, 0]), 2)


def test_deltas_in_bare_numbers_are_not_repeated_but_asked_about():
    policy = Says(replace(WORLD, units="1", rate=5.0), [1.0, -1.0, 1.0])
    with pytest.raises(ValueError, match=r"do not tell: dx, dy; .* type policy.contract") as refused:
        Repeated(policy, 4)
    line = re.search(r"dataclasses.replace\(.*\)\)", str(refused.value))[0]
    policy.contract = eval(line, {"dataclasses": dataclasses, "policy": policy})
    assert policy.contract.unit == ("metres per step", "metres per step", "1")
    np.testing.assert_allclose(Repeated(policy, 4).act(SEEN)[0], [0.25, -0.25, 1.0])
    policy.contract = replace(policy.contract, units=("1 per step", "state", "1"))
    np.testing.assert_allclose(Repeated(policy, 4).act(SEEN)[0], [0.25, -1.0, 1.0])
    thirteen = Says(RT1, np.arange(13) / 16)
    flags = [RT1.names.index(name) for name in RT1.names if name.startswith(("terminate", "gripper"))]
    np.testing.assert_allclose(Repeated(thirteen, 2).act(SEEN)[0, flags], thirteen.rows[0][flags])


class Trained(Says):
    """Notes the spaces that it is held against, and wants pictures of 48 pixels."""

    def check_spaces(self, observation_space, action_space):
        self.spaces = (observation_space, action_space)
        if observation_space["pixels"].shape != (48, 48, 3):
            raise ValueError("trained on 48x48 pixels")


AROUND = [
    lambda policy: Handicap(policy),
    lambda policy: Delayed(policy, 2),
    lambda policy: Biased(policy, [0.1, 0, 0]),
    lambda policy: Repeated(policy, 1),
    lambda policy: adapt(policy, WORLD),
]


@pytest.mark.parametrize("around", AROUND)
def test_what_stands_around_a_policy_passes_on_what_it_states(around):
    policy = Trained(WORLD, [1, 1, 1])
    outer = around(around(policy))
    check_contracts({"mine": outer}, CONFIG)
    check_spaces({"mine": outer}, CONFIG)
    assert policy.spaces[1] == BoxActions(SPEC).space
    with pytest.raises(ContractMismatch, match=r"policy 'mine'.*\n.*rate: got 20 Hz, expected 5 Hz"):
        check_contracts({"mine": outer}, replace(CONFIG, fps=5.0))
    with pytest.raises(ValueError, match="policy 'mine': trained on 48x48"):
        check_spaces({"mine": outer}, replace(CONFIG, frame_size=(64, 64)))
    outer.contract = replace(outer.contract, rate=5.0)  # it may be said of the whole
    check_contracts({"mine": outer}, replace(CONFIG, fps=5.0))
    check_spaces({"mine": around(Says(WORLD, [1, 1, 1]))}, CONFIG)


def test_an_adapted_policy_is_held_against_the_actions_that_it_gives_itself():
    metres = replace(WORLD, normaliser=Normaliser())
    policy = Trained(metres, [0, 0, 0])
    check_spaces({"mine": adapt(policy, WORLD)}, CONFIG)
    assert policy.spaces[1] == spaces.Box(np.float32(metres.low), np.float32(metres.high))
    silent = Trained(replace(metres, low=None, high=None), [0, 0, 0])
    check_spaces({"mine": adapt(silent, WORLD)}, CONFIG)
    assert not hasattr(silent, "spaces"), "nobody says what its actions lie in"
    silent.contract = replace(WORLD, low=None, high=None)
    check_spaces({"mine": adapt(silent, WORLD)}, CONFIG)
    assert silent.spaces[1] == BoxActions(SPEC).space


def test_actions_of_another_shape_than_the_contract_says_are_refused():
    with pytest.raises(ValueError, match=r"act must return \(b, 3\)"):
        adapt(Says(WORLD, [0, 0]), WORLD).act(SEEN)
