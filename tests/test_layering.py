"""An import may only point down the layers, and only by the package's long name."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "v2w_gym"
LAYERS = (
    {"shapes", "arrays", "config", "configs", "registration", "weights", "wire"},
    {"world_model", "data"},
    {"policies", "envs", "rewards"},
    {"evaluation", "training", "serve"},
    {"cli", "__main__", "examples"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
SIDEWAYS = {("envs", "rewards"), ("policies", "envs"), ("evaluation", "training"), ("__main__", "cli")}
"""Rooms of one layer that may know each other: a detector gives an environment its reward, what a policy's
actions mean is held against what a world's do, and validation counts a detector's errors as its training
does."""


def modules() -> list[Path]:
    rooms = [path for path in PACKAGE.iterdir() if path.is_dir()]  # links are followed one by one
    return sorted([*PACKAGE.glob("*.py"), *(file for room in rooms for file in room.rglob("*.py"))])


def imports(path: Path) -> set[str]:
    """Names of all modules imported anywhere in the file, lazily or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the long name, not relatively"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room_of(module: str) -> str | None:
    """The room below v2w_gym that a dotted name lies in."""
    parts = module.split(".")
    return parts[1] if parts[0] == "v2w_gym" and len(parts) > 1 and parts[1] in LEVEL else None


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_room_has_a_layer():
    rooms = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__"} <= set(LEVEL)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_down(path):
    here = room_of(name_of(path))
    if here is None:
        return  # the package's own __init__ offers everything, lazily
    for there in {room_of(module) for module in imports(path)} - {None, here}:
        assert LEVEL[there] <= LEVEL[here], f"{name_of(path)} imports {there}, a layer above it"
        if LEVEL[there] == LEVEL[here]:
            assert (here, there) in SIDEWAYS, f"{name_of(path)} imports {there}, beside it in the same layer"


def test_the_package_itself_imports_only_the_registration():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    eager = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    named = {f"{node.module}.{alias.name}" for node in eager for alias in node.names}
    assert {name for name in named if name.startswith("v2w_gym")} == {"v2w_gym.registration"}


FORBIDDEN = [
    ("world_model", {"gymnasium", "stable_baselines3"}),
    ("data", {"gymnasium", "stable_baselines3"}),
    ("envs", {"torch", "einops"}),  # no tensor maths
    ("registration", {"torch"}),
    ("evaluation/stats", {"torch"}),
    ("evaluation/metrics", {"v2w_gym"}),
]


@pytest.mark.parametrize(("room", "forbidden"), FORBIDDEN, ids=[room for room, _ in FORBIDDEN])
def test_what_a_room_may_not_know(room, forbidden):
    for path in modules():
        if path.relative_to(PACKAGE).as_posix().startswith(room):
            assert not {module.split(".")[0] for module in imports(path)} & forbidden, name_of(path)


def test_statistics_know_numbers_only():
    """Pure functions on numpy and scipy: of ours they import each other and nothing else."""
    files = [path for path in modules() if path.parent == PACKAGE / "evaluation" / "stats"]
    assert files
    for path in files:
        ours = {module for module in imports(path) if module.split(".")[0] == "v2w_gym"}
        assert all(module.startswith("v2w_gym.evaluation.stats") for module in ours), name_of(path)
        known = {"__future__", "collections", "dataclasses", "itertools", "math", "typing", "numpy", "scipy"}
        assert {module.split(".")[0] for module in imports(path)} - {"v2w_gym"} <= known, name_of(path)


SHORT_IMPORT = re.compile(r"^\s*(?:from|import)\s+(?:policies|evaluation|configs)\b", re.MULTILINE)


def test_no_import_by_the_short_name():
    """From the root both names import, as two modules, and registries would split."""
    folders = ("v2w_gym", "policies", "evaluation", "configs", "tests", "examples", "benchmarks", "docs")
    files = [
        f for folder in folders for f in (ROOT / folder).rglob("*") if f.suffix in {".py", ".md", ".yaml"}
    ]
    offenders = [
        f for f in [*files, ROOT / "README.md"] if f.is_file() and SHORT_IMPORT.search(f.read_text())
    ]
    assert not offenders


def test_no_drawer_names():
    banned = {"utils", "helpers", "common", "types", "logging", "statistics"}
    assert not [path for path in modules() if path.stem in banned]
