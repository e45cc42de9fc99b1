"""The ids of released worlds: without weights they say what to do; with any weights they are environments."""

from __future__ import annotations

import json
import re
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium.utils.env_checker import check_env

from v2w_gym import Vid2World, World, cli
from v2w_gym.envs.domains import DOMAINS
from v2w_gym.registration import RELEASED_WORLDS
from v2w_gym.world_model.released.presets import PRESETS, shipped
from v2w_gym.world_model.released.random_weights import tiny_values, write_random

FRAME = (64, 128)
UNITS = ".*symmetric and normalized space"  # a recommendation; these actions have units


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A world with small random weights for each domain, made by ``v2w convert``; frames are small too."""
    pytest.importorskip("transformers", reason='needs pip install "v2w_gym[released]"')
    made = {}
    for domain in PRESETS:
        folder = tmp_path_factory.mktemp(domain)
        values = tiny_values(domain)
        values["model"]["params"]["image_size"] = [side // 8 for side in FRAME]
        (folder / "config.json").write_text(json.dumps(values))
        write_random(folder / "model.ckpt", values)
        command = ["convert", str(folder / "model.ckpt"), str(folder / "world")]
        assert cli.main([*command, "--config", str(folder / "config.json"), "--domain", domain]) == 0
        made[domain] = folder / "world"
    return made


def picture(count=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *FRAME, 3), np.uint8)


@pytest.fixture(params=RELEASED_WORLDS)
def given(request, folders):
    """An id and keywords that open it."""
    return request.param, {"weights": str(folders[RELEASED_WORLDS[request.param]]), "starts": picture()}


def test_check_env_finds_nothing(given):
    env_id, kwargs = given
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", UNITS)
        check_env(gymnasium.make(env_id, render_mode="rgb_array", **kwargs).unwrapped)


@pytest.mark.slow
def test_many_at_once_are_as_one_alone(given):
    env_id, kwargs = given
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        many = gymnasium.make_vec(env_id, num_envs=2, horizon=4, **kwargs)
        one = gymnasium.make(env_id, horizon=4, **kwargs)
        many.reset(seed=5)
        one.reset(seed=6)
        many.action_space.seed(0)
        for step in range(4):  # beyond the window of 3 frames
            actions = many.action_space.sample()
            second = {k: v[1] for k, v in actions.items()} if isinstance(actions, dict) else actions[1]
            seen, *_, flags, info = many.step(actions)
            alone = one.step(second)
            expected = seen["pixels"][1] if step < 3 else info["final_obs"][1]["pixels"]
            difference = np.abs(alone[0]["pixels"].astype(int) - expected)
            assert difference.max() <= 1  # sums of another batch size round otherwise
        assert flags.all()


def test_a_converted_world_is_complete(folders):
    for domain, folder in folders.items():
        world = World.open(folder)
        assert world.config.action == DOMAINS[domain].action
        assert world.config.fps == DOMAINS[domain].fps
        assert world.config.detector.kind == "none"
        assert world.config.preset is None
        assert world.config.sampler["history"] == "recompute"
        assert "conditioner/model.safetensors" in world.config.hashes
        card = (folder / "README.md").read_text()
        assert PRESETS[domain].hub in card
        assert "not" in card.partition("Licence")[2]
    target = folders["rt1"] / "unet" / "diffusion_pytorch_model.safetensors"
    whole = target.read_bytes()
    target.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        with pytest.raises(ValueError, match="truncated or belongs to another world"):
            World.open(folders["rt1"]).model(device="cpu", steps=1)
    finally:
        target.write_bytes(whole)


@pytest.mark.parametrize("env_id", RELEASED_WORLDS)
def test_without_weights_an_id_says_at_once_what_to_do(env_id):
    preset = PRESETS[RELEASED_WORLDS[env_id]]
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(FileNotFoundError) as caught:
            make(f"v2w_gym:{env_id}")
        message = str(caught.value)
        for words in (
            preset.hub,
            "about 10 GB",
            f"hf download {preset.hub}",
            "v2w convert",
            'weights="path"',
        ):
            assert words in message
        assert all(name in message for name in preset.others)


def test_an_id_takes_what_was_fetched_before_and_asks_for_nothing_more(folders, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot_download(repository, local_files_only=False, **_):
        asked.append((repository, local_files_only))
        return str(folders["rt1"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert World.open("v2w_gym:Vid2World-RT1-v0").folder == folders["rt1"]
    assert asked == [("thuml/Vid2World-RT1", True)]


def test_weights_of_another_domain_or_of_nothing_are_refused(folders, tmp_path):
    with pytest.raises(ValueError, match="actions of 51 components, but RT-1 has 13"):
        World.open("Vid2World-RT1-v0", weights=folders["csgo"])
    with pytest.raises(FileNotFoundError, match="neither a world"):
        World.open("Vid2World-RT1-v0", weights=tmp_path)
    with pytest.raises(FileNotFoundError, match="hf download some/where"):
        World.open("Vid2World-RT1-v0", weights="some/where")
    with pytest.raises(ValueError, match="without weights"):
        World.open("Vid2World-RT1-v0", weights=tmp_path, preset="tiny-random")
    with pytest.raises(ValueError, match=r"must be one of .'tiny-random'."):
        gymnasium.make("Vid2World-RT1-v0", preset="big")
    with pytest.raises(ValueError, match="weights and preset are for the released ids"):
        gymnasium.make("Vid2World-DrawerClose-v0", preset="tiny-random")


@pytest.mark.slow
@pytest.mark.parametrize("env_id", RELEASED_WORLDS)
def test_the_stand_in_says_so_and_has_the_real_spaces(env_id):
    pytest.importorskip("transformers", reason='needs pip install "v2w_gym[released]"')
    with pytest.warns(UserWarning, match=r'preset="tiny-random".*random weights'):
        env = gymnasium.make(env_id, preset="tiny-random", horizon=1)
    assert env.observation_space["pixels"].shape == (320, 512, 3)
    frame, info = env.reset(seed=0)
    assert info["preset"] == "tiny-random"
    top, bottom, left, right = DOMAINS[RELEASED_WORLDS[env_id]].framing.bars
    bars = np.ones((320, 512), bool)
    bars[top : 320 - bottom, left : 512 - right] = False
    assert not frame["pixels"][bars].any()
    *_, truncated, info = env.step(env.action_space.sample())
    assert truncated
    assert info["preset"] == "tiny-random"


@pytest.mark.slow
@pytest.mark.parametrize("env_id", RELEASED_WORLDS)
def test_the_stand_in_passes_check_env(env_id):
    pytest.importorskip("transformers", reason='needs pip install "v2w_gym[released]"')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", 'preset="tiny-random"')
        warnings.filterwarnings("ignore", UNITS)
        check_env(gymnasium.make(env_id, preset="tiny-random", render_mode="rgb_array").unwrapped)
        envs = gymnasium.make_vec(env_id, num_envs=2, preset="tiny-random", horizon=2)
        _, infos = envs.reset(seed=0)
        assert infos["preset"].tolist() == ["tiny-random"] * 2
        for _ in range(2):
            *_, truncated, infos = envs.step(envs.action_space.sample())
        assert truncated.all()
        assert infos["preset"].tolist() == ["tiny-random"] * 2


def test_without_transformers_the_line_to_type_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("V2W_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with (
        pytest.warns(UserWarning, match="tiny-random"),
        pytest.raises(ImportError, match=r'pip install "v2w_gym\[released\]"'),
    ):
        gymnasium.make("Vid2World-RT1-v0", preset="tiny-random")
    assert not (tmp_path / "cache" / "converted").exists()


def test_a_model_of_no_known_domain_is_a_model_still(tmp_path, capsys):
    values = tiny_values("rt1")
    del values["sampler"]
    params = values["model"]["params"]
    params["image_size"], params["unet_config"]["params"]["action_dim"] = [8, 16], 7
    params["cond_stage_config"] = params["img_cond_stage_config"] = None
    (tmp_path / "config.json").write_text(json.dumps(values))
    write_random(tmp_path / "model.ckpt", values)
    command = ["convert", str(tmp_path / "model.ckpt"), str(tmp_path / "out")]
    assert cli.main([*command, "--config", str(tmp_path / "config.json"), "--dtype", "bf16"]) == 0
    assert "a model of no known domain" in capsys.readouterr().out
    model = Vid2World.from_pretrained(tmp_path / "out")
    assert model.action_dim == 7
    assert model.window == 16
    assert model.dynamics.sampler.config.steps == 50


def test_convert_reports_a_mistake_in_one_line(tmp_path, capsys):
    assert cli.main(["convert", str(tmp_path / "no.ckpt"), str(tmp_path / "out")]) == cli.USER_ERROR
    assert capsys.readouterr().err.startswith("v2w: error: no checkpoint file at")
    assert not (tmp_path / "out").exists()


def test_the_list_of_worlds_says_what_each_needs(capsys):
    assert cli.main(["worlds"]) == 0
    printed = capsys.readouterr().out
    assert all(env_id in printed for env_id in RELEASED_WORLDS)
    assert all(preset.hub in printed for preset in PRESETS.values())


def test_the_page_states_the_sampler_as_it_is():
    page = (Path(__file__).parents[1] / "docs" / "released-weights.md").read_text()
    table = page.split("## Sampler")[1].split("\n## ")[0]
    stated = {key: yaml.safe_load(value) for key, value in re.findall(r"\| `(\w+)` \| ([^:,|]+)", table)}
    for domain in PRESETS:
        sampler = yaml.safe_load(shipped(domain).read_text())["sampler"]
        assert stated == {key: value for key, value in sampler.items() if key != "window"}
