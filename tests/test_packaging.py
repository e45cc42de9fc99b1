"""What is installed is what is in the checkout: the linked folders inside, and every data file."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("policies", "evaluation", "configs")
CODE = {".py", ".typed"}


def clean_copy(target: Path, tiny_world: Path) -> Path:
    """The checkout's sources and one more world, so that there are data files whatever is shipped."""
    target.mkdir()
    for name in ("v2w_gym", *LINKED):
        shutil.copytree(
            ROOT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    shutil.copytree(tiny_world, target / "v2w_gym" / "worlds" / "planted")
    (target / "v2w_gym" / "worlds" / "planted" / "README.md").write_text("the card\n")
    return target


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def sources(root: Path) -> dict[str, bytes]:
    """Every file below the package, the linked folders included, by its path in the wheel."""
    package = root / "v2w_gym"
    rooms = [path for path in package.iterdir() if path.is_dir()]  # links are followed one by one
    files = [*(p for p in package.iterdir() if p.is_file()), *(f for room in rooms for f in room.rglob("*"))]
    return {f.relative_to(root).as_posix(): f.read_bytes() for f in files if f.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory, tiny_world):
    """Sources of a wheel, and the wheel; built without network."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    root = clean_copy(folder / "checkout", tiny_world)
    pip("wheel", str(root), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    (wheel,) = folder.glob("*.whl")
    return sources(root), wheel


@pytest.mark.slow
def test_the_wheel_holds_every_source_and_data_file_unchanged(built):
    files, wheel = built
    with zipfile.ZipFile(wheel) as archive:
        packed = {n: archive.read(n) for n in archive.namelist() if ".dist-info/" not in n}
    data = {".json", ".safetensors", ".npz", ".md", ".yaml", ".html", ".css", ".js"}
    assert {Path(name).suffix for name in files} >= CODE | data
    assert set(packed) == set(files)
    assert not [name for name in files if packed[name] != files[name]]


@pytest.mark.slow
def test_an_installed_wheel_works_without_the_checkout(built, tmp_path):
    pip("install", str(built[1]), "--no-deps", "--target", str(tmp_path / "site"))
    assert {path.name for path in (tmp_path / "site").iterdir()} >= {"v2w_gym"}
    assert not {path.name for path in (tmp_path / "site").iterdir()} & set(LINKED)
    code = """
        import sys; sys.path.insert(0, "site")
        import v2w_gym, v2w_gym.configs, v2w_gym.evaluation, v2w_gym.policies
        from pathlib import Path
        homes = [Path(m.__file__).parents[2] for m in (v2w_gym.configs, v2w_gym.evaluation, v2w_gym.policies)]
        assert set(homes) == {Path.cwd() / "site"}, homes
        world = v2w_gym.World.open(Path(v2w_gym.__file__).parent / "worlds" / "planted")
        env = v2w_gym.WorldModelEnv(world)
        env.reset(seed=0)
        env.step(env.action_space.sample())
    """
    subprocess.run([sys.executable, "-I", "-c", _dedent(code)], cwd=tmp_path, check=True)


def _dedent(code: str) -> str:
    return "\n".join(line.strip() for line in code.strip().splitlines())


@pytest.mark.parametrize("name", LINKED)
def test_linked_folders_are_links(name):
    """A checkout without symbolic links holds text files instead; better to hear it from this test."""
    link = ROOT / "v2w_gym" / name
    assert link.is_symlink(), (
        f"{link} is no symbolic link: check out again with git config core.symlinks true"
    )
    assert link.resolve() == ROOT / name


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_pin_every_requirement_and_nothing_twice():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert len({normal(name) for name in pins}) == len(lines)
    assert not [pin for pin in pins.values() if "+" in pin], "a local version is found on one machine only"
    extras = project()["optional-dependencies"].values()
    wanted = [*project()["dependencies"], *(requirement for extra in extras for requirement in extra)]
    names = {normal(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in wanted} - {"v2w-gym"}
    assert names <= {normal(name) for name in pins}


def test_every_command_of_the_makefile_exists():
    from v2w_gym.cli import COMMANDS
    from v2w_gym.training.stages import STAGES

    recipes = (ROOT / "Makefile").read_text()
    called = re.findall(r"(?:\$\(V2W\)|-m v2w_gym) (\w+)(?: ([a-z]+))?", recipes)
    assert {command for command, _ in called} <= set(COMMANDS)
    stages = {stage for command, stage in called if command == "train"}
    assert stages | {"imagination"} == set(STAGES)
    assert "imagine" in {command for command, _ in called}, "which is how that stage is run"
    configs = re.findall(r"\$\(CONFIGS\)/(\w+\.yaml)", recipes)
    assert not [name for name in configs if not (ROOT / "configs" / "drawer_close" / name).is_file()]
