"""Sampler presets by name: chosen, refused, told apart in a ledger, and measured against the best."""

import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import yaml

from v2w_gym.cli import main
from v2w_gym.config import from_dict, to_dict
from v2w_gym.data.episode import Episode
from v2w_gym.envs.domains import DOMAINS
from v2w_gym.envs.world import World
from v2w_gym.evaluation import presets, rank
from v2w_gym.policies import registry
from v2w_gym.registration import SHIPPED_WORLDS
from v2w_gym.training.assemble import AssembleConfig, assemble
from v2w_gym.world_model.released.presets import shipped
from v2w_gym.world_model.released.sizes import read_sizes, sizes_from
from v2w_gym.world_model.sampler import SamplerConfig

PRESETS = {"fast": {"steps": 1, "precision": "bf16"}, "balanced": {}, "best": {"steps": 4}}


@pytest.fixture(scope="module")
def world(tiny_world, tmp_path_factory):
    """The tiny world with presets; its own sampler takes 2 steps."""
    folder = shutil.copytree(tiny_world, tmp_path_factory.mktemp("presets") / "world")
    values = json.loads((folder / "world.json").read_text())
    (folder / "world.json").write_text(json.dumps({**values, "samplers": PRESETS}))
    return folder


def test_a_name_stands_for_its_values(world):
    opened = World.open(world)
    assert opened.model(sampler="best") is opened.model(sampler={"steps": 4}) is opened.model(steps=4)
    assert opened.model(sampler="balanced") is opened.model()
    assert len({opened.model(sampler=name).hash for name in PRESETS}) == 3
    assert opened.sampler("fast") == {**opened.config.sampler, "steps": 1, "precision": "bf16"}
    assert opened.model(sampler="fast", steps=3).dynamics.sampler.config.steps == 3
    frames = []
    for sampler in ("best", {"steps": 4}, None):
        env = gym.make("v2w_gym:Vid2World-v0", world=str(world), sampler=sampler)
        env.reset(seed=1)
        frames.append(env.step(np.zeros(4, np.float32))[0]["pixels"])
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).any()


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_an_unknown_name_is_refused_with_those_there_are(world, tiny_world, make):
    message = (
        r"world 'tiny' has no sampler preset 'fats'; did you mean 'fast'\? it has fast, balanced, best; "
        r'or give values: sampler=\{"steps": 2\}'
    )
    with pytest.raises(ValueError, match=message):
        make("v2w_gym:Vid2World-v0", world=str(world), sampler="fats")
    with pytest.raises(ValueError, match="no sampler preset 'best'; it has none"):
        make("v2w_gym:Vid2World-v0", world=str(tiny_world), sampler="best")


def test_presets_are_data_of_a_world(world, tmp_path):
    config = World.open(world).config
    assert config.samplers == PRESETS
    assert from_dict(type(config), to_dict(config)) == config
    for env_id in SHIPPED_WORLDS:
        shipped_world = World.open(env_id)
        assert list(shipped_world.config.samplers) == ["fast", "balanced", "best"]
        for name in shipped_world.config.samplers:
            from_dict(SamplerConfig, shipped_world.sampler(name))
    folder = shutil.copytree(world, tmp_path / "world")
    values = json.loads((folder / "world.json").read_text())
    (folder / "world.json").write_text(json.dumps({**values, "samplers": {"fast": 1}}))
    with pytest.raises(ValueError, match=r"samplers\.fast must be a mapping"):
        World.open(folder)


def test_assembling_writes_them(world, tmp_path):
    config = to_dict(World.open(world).config)
    known = (
        "name",
        "version",
        "frame_size",
        "fps",
        "horizon",
        "action",
        "instructions",
        "sampler",
        "detector",
    )
    values = {key: config[key] for key in known}
    values |= {"codec": str(world / "codec"), "unet": str(world / "unet"), "samplers": PRESETS}
    assemble(from_dict(AssembleConfig, values), tmp_path / "world")
    assert World.open(tmp_path / "world").config.samplers == PRESETS
    trained = shutil.copytree(world / "unet", tmp_path / "run" / "unet").parent / "scheduler"
    trained.mkdir()
    (trained / "scheduler_config.json").write_text('{"num_train_timesteps": 500}')
    other = from_dict(AssembleConfig, {**values, "unet": str(tmp_path / "run" / "unet")})
    assemble(other, tmp_path / "other")
    assert World.open(tmp_path / "other").model().dynamics.diffusion.config.num_train_timesteps == 500
    bad = from_dict(AssembleConfig, {**values, "samplers": {"fast": {"stepz": 1}}})
    with pytest.raises(ValueError, match=r"unknown key 'stepz' in samplers\.fast; did you mean 'steps'"):
        assemble(bad, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("domain", DOMAINS)
def test_released_sizes_have_presets_that_make_samplers(domain):
    sizes = read_sizes(shipped(domain))
    assert list(sizes.samplers) == ["fast", "balanced", "best"]
    assert not sizes.samplers["best"]  # what the authors ran
    values = yaml.safe_load(shipped(domain).read_text())
    values["samplers"]["fast"]["stepz"] = 1
    with pytest.raises(ValueError, match=r"unknown key 'stepz' in .*samplers\.fast"):
        sizes_from(values)


class Push:
    """One constant action."""

    def __init__(self, value):
        self.value = value

    def act(self, observation):
        return np.full((len(observation["pixels"]), 4), self.value, np.float32)


def test_a_ledger_belongs_to_one_sampler(world, tmp_path):
    policies = {"left": Push(-0.9)}
    ranking = {"episodes": 2, "seed": 0, "progress": False}
    summary = rank(world, policies, out=tmp_path, sampler="fast", **ranking)
    assert summary["sampler"] == World.open(world).sampler("fast")
    lines = (tmp_path / "ledger.jsonl").read_text()
    with pytest.raises(ValueError, match=r"another run \(.*world_model_hash .* there, .* here"):
        rank(world, policies, out=tmp_path, sampler="best", **ranking)
    rank(world, policies, out=tmp_path, sampler={"steps": 1, "precision": "bf16"}, **ranking)
    assert (tmp_path / "ledger.jsonl").read_text() == lines


@pytest.mark.slow
def test_presets_are_measured_side_by_side(world, tmp_path, monkeypatch, capsys):
    (tmp_path / "heldout").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        frames = rng.integers(0, 256, (7, 48, 48, 3), dtype=np.uint8)
        actions = rng.uniform(-1, 1, (6, 4)).astype(np.float32)
        episode = Episode(frames, actions, np.zeros(7, bool), "close the drawer", "walk", i)
        episode.save(tmp_path / "heldout" / f"{i}.npz")
    policies = {"left": Push(-0.9), "right": Push(0.9), "idle": Push(0.0)}
    monkeypatch.setattr(registry, "names", lambda: list(policies))
    monkeypatch.setattr(registry, "resolve", policies.__getitem__)
    for name, value in (("BATCH", 2), ("WARM_UP", 0), ("ROUNDS", 1)):
        monkeypatch.setattr(presets, name, value)
    out = tmp_path / "out"
    command = ["presets", "--world", str(world), "--heldout", str(tmp_path / "heldout")]
    command += ["--episodes", "3", "--out", str(out)]
    assert main(command) == 0
    report = json.loads((out / "presets.json").read_text())
    assert list(report) == list(PRESETS)
    best = report["best"]
    assert best["success_difference"] == 0
    assert best["pearson"] in (None, pytest.approx(1.0))
    for name, entry in report.items():
        assert entry["sampler"] == World.open(world).sampler(name)
        assert entry["step_ms"] > 0
        assert 0 <= entry["verdict_agreement"] <= 1
        assert 3 < entry["psnr_mean_db"] < 30  # against noise
        successes = [json.loads((out / n / "summary.json").read_text())["policies"] for n in (name, "best")]
        own, theirs = ({e["name"]: e["success"] for e in entries} for entries in successes)
        assert entry["success_difference"] == max(abs(own[p] - theirs[p]) for p in policies)
    table = capsys.readouterr().out
    assert all(f"\n{name} " in table for name in PRESETS)


def test_there_must_be_a_best(tiny_world, tmp_path, capsys):
    command = [
        "presets",
        "--world",
        str(tiny_world),
        "--heldout",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(command) == 2
    assert "no sampler preset 'best'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_audit_takes_a_preset(world, tmp_path, capsys):
    (tmp_path / "heldout").mkdir()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    for seed in range(2):
        Episode(frames, np.zeros((2, 4), np.float32), np.zeros(3, bool), "t", "walk", seed).save(
            tmp_path / "heldout" / f"{seed}.npz"
        )
    folder = str(tmp_path / "heldout")
    command = ["audit", "--world", str(world), "--heldout", folder, "--steps", "2", "--sampler"]
    assert main([*command, "best", "--out", str(tmp_path / "out")]) == 1  # nothing is like noise
    for name in ("audit.json", "validation.json"):
        assert json.loads((tmp_path / "out" / name).read_text())["sampler"]["steps"] == 4
    assert main([*command, "bets", "--out", str(tmp_path / "other")]) == 2
    assert "did you mean 'best'" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_the_command_rank_takes_a_preset(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["rank", "--world", str(world), "--policy", "sideways", "--episodes", "1", "--sampler"]
    assert main([*command, "bets"]) == 2
    assert "did you mean 'best'" in capsys.readouterr().err
    assert main([*command, "best"]) == 0
    summary = json.loads((tmp_path / "runs" / "rank-tiny-0-any-best" / "summary.json").read_text())
    assert summary["sampler"]["steps"] == 4
