"""What a policy's numbers mean is held against what the world takes, and converted only on request."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from contracts import CONFIG, RT1, WORLD, Says, values

from v2w_gym.config import from_dict
from v2w_gym.envs.domains import DOMAINS
from v2w_gym.envs.world import World
from v2w_gym.evaluation import rank
from v2w_gym.policies.adapted import adapt
from v2w_gym.policies.contract import (
    ActionContract,
    ContractMismatch,
    check_contract,
    check_contracts,
    with_data,
    world_contract,
)
from v2w_gym.policies.normaliser import Normaliser


def test_a_world_says_what_it_takes():
    assert WORLD.rate == CONFIG.fps
    assert WORLD.normaliser.kind == "bounds"
    np.testing.assert_allclose(values(WORLD, [1, -1, 1]), [0.04, -0.02, 1])
    assert RT1.normaliser.kind == "none"
    assert RT1.gripper_index == RT1.names.index("gripper_closedness")


@pytest.mark.parametrize("name", DOMAINS)
def test_a_world_takes_its_own_actions(name):
    contract = ActionContract.of_spec(DOMAINS[name].action, DOMAINS[name].fps)
    unstated = check_contract(contract, contract)
    assert unstated == {"rt1": (), "recon": ()}.get(name, ("frame", "mode", "normaliser.data"))


def test_the_shipped_world_has_a_contract():
    contract = world_contract(World.open("Vid2World-DrawerClose-v0"))
    assert contract.names == ("dx", "dy", "dz", "gripper")
    assert contract.rate == 20


def test_the_contract_on_the_page_is_that_of_the_shipped_world():
    page = (Path(__file__).parents[1] / "docs" / "policies.md").read_text()
    written = yaml.safe_load(page.split("```yaml")[1].split("```")[0])
    contract = from_dict(ActionContract, written)
    world = World.open("Vid2World-DrawerClose-v0")
    assert check_contract(contract, world) == ("range", "frame", "mode", "rate", "normaliser.data")


def test_the_example_on_the_page_runs_and_is_refused_as_printed():
    page = (Path(__file__).parents[1] / "docs" / "policies.md").read_text()
    printed, example = page.split("```py\n")[1:3]
    world = World.open("Vid2World-DrawerClose-v0")
    stated, mended = example.split("```")[0].split("policy.contract = with_data")
    names = {"policy": Says(None, [0] * 4), "world": world}
    exec(stated, names)
    with pytest.raises(ContractMismatch) as caught:
        check_contract(names["policy"], world)
    said = " ".join(str(caught.value).split())
    shown = " ".join(printed.split("```")[0].split("takes:")[1].split()).removesuffix(" ...")
    differences = re.split(r" (?=\w+: got )", shown)
    assert [d.split(":")[0] for d in differences] == ["units", "gripper", "rate"]
    assert [d for d in differences if d not in said] == []
    exec(f"policy.contract = with_data{mended}", names)
    assert check_contract(names["policy"], world) == ("range", "normaliser.data")


DIFFERENT = [
    ("names", replace(WORLD, names=("dx", "dz", "gripper")), "lacks ['dy'] and has ['dz']"),
    ("names", replace(WORLD, names=("dy", "dx", "gripper")), "adapt(policy, world)"),
    ("units", replace(WORLD, units=("centimetres per step", "metres per step", "1")), "adapt(policy, world)"),
    ("units", replace(WORLD, units=("ells", "metres per step", "1")), "no factor is known"),
    ("units", replace(WORLD, units=("metres per second", "metres per step", "1")), "no factor is known"),
    ("units", replace(WORLD, units=("1", "metres per step", "1")), "policy.contract = world_contract(world)"),
    ("range", replace(WORLD, low=(-0.05, -0.02, -1.0)), "clip=True"),
    ("frame", replace(WORLD, frame="end effector"), "no robot"),
    ("mode", replace(WORLD, mode="absolute"), "no robot"),
    ("rate", replace(WORLD, rate=5.0), "Repeated(policy, 4)"),
    ("rate", replace(WORLD, rate=40.0), "frames between"),
    ("rate", replace(WORLD, rate=15.0), "1.33 times"),
    ("gripper", replace(WORLD, gripper="opening"), "type adapt(policy, world)"),
    ("gripper", replace(WORLD, gripper="openness"), 'gripper="sticky"'),
    ("normaliser", replace(WORLD, normaliser=Normaliser(data="drawer")), "adapt(policy, world)"),
    ("normaliser.data", with_data(WORLD, "bridge_orig"), "unnorm_key='drawer'"),
]


@pytest.mark.parametrize(("field", "contract", "line"), DIFFERENT)
def test_a_difference_is_refused_with_what_to_type(field, contract, line):
    with pytest.raises(ContractMismatch) as caught:
        check_contract(contract, CONFIG)
    assert caught.value.fields == (field,)
    assert f"\n  {field}: got " in str(caught.value)
    assert ", expected " in str(caught.value)
    assert line in str(caught.value)


def test_all_differences_are_named_at_once():
    with pytest.raises(ContractMismatch) as caught:
        check_contract(replace(WORLD, frame="base", mode="absolute", rate=5.0, gripper="opening"), WORLD)
    assert set(caught.value.fields) == {"frame", "mode", "rate", "gripper"}


def test_what_is_not_stated_is_not_compared_but_told():
    bare = ActionContract(WORLD.names, WORLD.units, normaliser=with_data(WORLD, None).normaliser)
    unstated = ("range", "frame", "mode", "rate", "gripper", "normaliser.data")
    assert check_contract(bare, WORLD) == unstated
    assert check_contract(WORLD, bare) == unstated
    assert check_contract(replace(WORLD, high=None), WORLD) == ("range",)


def test_the_range_of_a_gripper_is_compared_though_nobody_says_what_it_means():
    bits = replace(WORLD, gripper=None, high=(0.04, 0.02, 255.0))
    for check in (check_contract, adapt):
        with pytest.raises(ContractMismatch, match=r"range: got gripper in -1\.\.255, expected -1\.\.1"):
            check(Says(bits, [0, 0, 0]), WORLD)


def test_contracts_of_several_policies_are_checked_by_name():
    check_contracts({"plain": object(), "fits": Says(WORLD, [0, 0, 0])}, CONFIG)
    with pytest.raises(ContractMismatch, match=r"policy 'other': .*\n.*frame"):
        check_contracts({"fits": Says(WORLD, [0, 0, 0]), "other": Says(replace(WORLD, frame="base"))}, CONFIG)
    with pytest.raises(ValueError, match=r"does not say what its actions mean; set policy.contract"):
        check_contract(object(), WORLD)
    with pytest.raises(TypeError, match="ActionContract, got str"):
        check_contract(type("P", (), {"contract": "metres"})(), WORLD)


def test_a_ranking_checks_contracts_before_its_first_episode(tiny_world, tmp_path):
    tiny = world_contract(World.open(tiny_world))
    policy = Says(replace(tiny, rate=2 * tiny.rate), [0] * 4)
    with pytest.raises(ContractMismatch, match=r"policy 'fast': .*\n.*rate: got"):
        rank(
            tiny_world,
            {"fits": Says(tiny, [0] * 4), "fast": policy},
            episodes=2,
            seed=0,
            out=tmp_path / "out",
        )
    assert policy.asked == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"names": ("dx", "dx", "gripper")}, "each once"),
        ({"low": (0.0,)}, "as many low"),
        ({"low": (float("nan"), -1.0, -1.0)}, "low of dx must not lie above"),
        ({"high": (-1.0, 1.0, 1.0)}, "low of dx must not lie above"),
        ({"units": ("m",)}, "as many units"),
        ({"rate": 0.0}, "above 0"),
        ({"gripper": "half"}, "gripper must be one of"),
        ({"names": ("a", "b", "c")}, "called gripper"),
        ({"normaliser": Normaliser("mean_std", mean=(0.0,), std=(1.0,))}, "for 1 components"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        replace(WORLD, **changes)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"kind": "bounds"}, "has low and high"),
        ({"kind": "none", "low": (0.0,), "high": (1.0,)}, "has no numbers"),
        ({"kind": "mean_std", "mean": (0.0,), "std": (0.0,)}, "std above 0"),
        ({"kind": "quantile", "low": (1.0,), "high": (1.0,)}, "below its high"),
        ({"kind": "bounds", "low": (0.0, 1.0), "high": (1.0,)}, "as many numbers"),
        ({"kind": "bounds", "low": (0.0, 0.0), "high": (1.0, 1.0), "applied": (False,)}, "as many numbers"),
        ({"kind": "bounds", "low": (float("nan"),), "high": (1.0,)}, "finite"),
        ({"kind": "minmax"}, "kind must be"),
    ],
)
def test_a_normaliser_without_the_right_numbers_is_refused(values, text):
    with pytest.raises(ValueError, match=text):
        Normaliser(**values)
