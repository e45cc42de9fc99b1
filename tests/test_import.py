"""Importing the package is cheap and registers the ids; public names come when they are asked for."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import v2w_gym

HEAVY = ("torch", "diffusers", "tensordict", "stable_baselines3", "cv2", "matplotlib", "scipy", "metaworld")


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_registers_ids_and_loads_nothing_heavy():
    print_found = f"print([m for m in {HEAVY} if m in sys.modules], 'Vid2World-v0' in gymnasium.registry)"
    assert run(f"import sys, gymnasium, v2w_gym; {print_found}").strip() == "[] True"


def test_import_time(capsys):
    """The bar is 0.15 s beyond gymnasium's own import; the bound here is loose, as test machines are busy."""
    code = "import time, gymnasium; t = time.perf_counter(); import v2w_gym; print(time.perf_counter() - t)"
    seconds = min(float(run(code)) for _ in range(3))
    with capsys.disabled():
        print(f"\nimport v2w_gym: {seconds * 1000:.1f} ms beyond gymnasium")
    assert seconds < 1.0


def test_opening_a_world_loads_no_network_code(tiny_world):
    world = f"v2w_gym.World.open({str(tiny_world)!r}).starts()"
    code = f"import sys, v2w_gym; {world}; print('diffusers' in sys.modules)"
    assert run(code).strip() == "False"


@pytest.mark.parametrize("name", v2w_gym.__all__)
def test_public_names_resolve(name):
    assert getattr(v2w_gym, name) is not None
    assert name in dir(v2w_gym)


def test_version_is_the_one_that_is_built():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert v2w_gym.__version__ == project["version"]


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"public names: .*World"):
        v2w_gym.Wrold  # noqa: B018 - to ask for it is what fails
