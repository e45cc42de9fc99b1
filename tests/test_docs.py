"""Tables and code blocks of the README and of docs/ are what the code says."""

import dataclasses
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from v2w_gym.data import behaviours
from v2w_gym.data.episode import Episode
from v2w_gym.data.starts import StartContexts
from v2w_gym.envs.settings import Settings
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.timeline import Parallel, Stepping, clip, twin

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def drawn(axis: Parallel, names: list[str]) -> str:
    """What each row sees: a row per row, a column per column, x where it looks."""
    head = "".join(f"{name:>4}" for name in names)
    rows = ["".join(f"{'x' if seen else '.':>4}" for seen in row) for row in axis.visible]
    return "\n".join([f"    {head}", *(f"{name:>4}{row}" for name, row in zip(names, rows, strict=True))])


def ring(window: int, frames: int) -> str:
    """Which finished frame lies in which place of the cache after the step that makes each."""
    cache = TensorDict({"frames": torch.full((1, window), -1)}, batch_size=[1])
    lines = ["frame " + "".join(f"{f'place {i}':>9}" for i in range(window))]
    for t in range(1, frames):
        Stepping(cache, torch.tensor([[t - 1, t]]), keep=1)
        places = ["-" if frame < 0 else str(frame) for frame in cache["frames"][0].tolist()]
        lines.append(f"{t:>4}  " + "".join(f"{place:>9}" for place in places))
    return "\n".join(lines)


def test_what_each_frame_sees():
    numbers = [str(i) for i in range(6)]
    twins = [*(f"c{i}" for i in range(5)), *(f"n{i}" for i in range(1, 6))]
    text = page("world-model.md")
    assert drawn(clip(6, 3, causal=False), numbers) in text
    assert drawn(clip(6, 3), numbers) in text
    assert drawn(twin(6, 3), twins) in text
    assert ring(3, 6) in text


def behaviour_row(name: str) -> str:
    maker, weight = behaviours.KINDS[name]
    says = inspect.getdoc(maker).split("\n")[0].split(". ")[0].rstrip(".")
    return f"| `{name}` | {weight:g} | {says} |"


def test_every_behaviour_is_in_the_table():
    rows = re.findall(
        r"^\| `.*", page("episodes.md").split("## Behaviours")[1].split("\n## ")[0], re.MULTILINE
    )
    assert rows == [behaviour_row(name) for name in behaviours.KINDS]


def test_the_arrays_of_an_episode_are_in_the_table(tmp_path):
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    actions, states = np.zeros((2, 4), np.float32), np.zeros((3, 7), np.float32)
    Episode(frames, actions, np.zeros(3, bool), "t", "b", 0, states).save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as file:
        kinds = {
            name: "str" if file[name].dtype.kind == "U" else str(file[name].dtype) for name in file.files
        }
    assert dict(re.findall(r"^\| `(\w+)` \| `\(.*?\)` \| (\w+) ", page("episodes.md"), re.MULTILINE)) == kinds


def test_the_world_folder_is_described_key_by_key(tiny_world):
    text = page("world-folder.md")
    described = re.findall(r"^\| `(\w+)` \|", text.split("## world.json")[1].split("\n## ")[0], re.MULTILINE)
    assert described == list(json.loads((tiny_world / "world.json").read_text()))
    files = {path.relative_to(tiny_world).as_posix() for path in tiny_world.rglob("*") if path.is_file()}
    optional = {
        "README.md",
        "detector/report.json",
        "credibility/config.json",
        "credibility/model.safetensors",
    }
    assert files | optional == set(re.findall(r"^([\w./]+\.\w+)(?: {2,}.*)?$", text, re.MULTILINE))
    assert len(StartContexts.load(tiny_world / "starts")) == 4


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README + page("environments.md"), re.DOTALL)


@pytest.mark.parametrize("code", blocks(), ids=[f"block {i}" for i in range(len(blocks()))])
def test_the_readme_and_the_page_on_environments_run(code, tiny_world):
    """As printed, but in the tiny world and with a policy that fits its frames."""
    code = code.replace(
        '"v2w_gym:Vid2World-DrawerClose-v0"', f'"v2w_gym:Vid2World-v0", world={str(tiny_world)!r}'
    )
    code = code.replace('"Vid2World-DrawerClose-v0"', repr(str(tiny_world)))
    code = code.replace(
        'policies.load("converged")', 'policies.resolve("v2w_gym.policies.simple:StillPolicy")'
    )
    exec(compile(code, "page", "exec"), {})


def test_links_lead_somewhere():
    for source in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", source.read_text()):
            assert (source.parent / target).exists(), f"{source.name} links to {target}"


def test_every_setting_of_an_environment_is_on_its_page():
    text = page("environments.md")
    assert [f.name for f in dataclasses.fields(Settings) if f"`{f.name}`" not in text] == []


def test_every_setting_of_the_sampler_is_on_its_page():
    text = page("world-model.md")
    assert [f.name for f in dataclasses.fields(SamplerConfig) if f"| `{f.name}` |" not in text] == []
