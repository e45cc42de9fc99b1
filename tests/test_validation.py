"""Holding a world against recordings, and building its folder: what is counted, written and refused."""

import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml

import v2w_gym  # noqa: F401
from v2w_gym.cli import main
from v2w_gym.config import to_dict
from v2w_gym.data.episode import Episode
from v2w_gym.envs.world import World
from v2w_gym.evaluation.audit.recordings import DIRECTIONS
from v2w_gym.evaluation.replay import replay
from v2w_gym.training import stages
from v2w_gym.training.assemble import rounded
from v2w_gym.training.card import write_card


def recorded(world, count, behaviours=("walk",), steps=6):
    """Episodes that the world itself imagined, so that a replay must come out the same."""
    rng = np.random.default_rng(1)
    env = gym.make("v2w_gym:Vid2World-v0", world=str(world), terminate_on_success=False, horizon=steps)
    episodes = []
    for seed in range(count):
        noise = np.zeros((1, *env.observation_space["pixels"].shape), np.uint8) + seed
        observation, _ = env.reset(
            seed=seed, options={"frames": noise, "actions": np.zeros((0, 4), np.float32)}
        )
        frames, actions, success = [observation["pixels"]], [], [False]
        for _ in range(steps):
            action = rng.uniform(-1, 1, 4).astype(np.float32)
            observation, _, _, _, info = env.step(action)
            frames.append(observation["pixels"])
            actions.append(action)
            success.append(info["is_success"])
        kind = behaviours[seed % len(behaviours)]
        episodes.append(Episode(np.stack(frames), np.stack(actions), np.array(success), "tiny", kind, seed))
    return episodes


def test_replay_does_not_depend_on_its_batches(tiny_world):
    world, episodes = World.open(tiny_world), recorded(tiny_world, 5)
    whole = replay(world, episodes, progress=False)
    parts = replay(world, episodes, batch_size=2, progress=False)
    np.testing.assert_allclose(whole.probabilities, parts.probabilities, atol=0.02)
    assert np.abs(whole.frames.astype(int) - parts.frames).max() <= 1
    assert whole.psnr.shape == whole.flags.shape == (5, 6)


def test_replay_refuses_action_free_episodes(tiny_world):
    episode = recorded(tiny_world, 1)[0]
    free = Episode(episode.frames, None, episode.success, "tiny", "walk", 3)
    with pytest.raises(ValueError, match="seed 3 has no actions"):
        replay(World.open(tiny_world), [free], progress=False)


def test_replay_goes_on_from_the_frames_that_it_is_given(tiny_world):
    world, episodes = World.open(tiny_world), recorded(tiny_world, 3)
    played = replay(world, episodes, given=3, progress=False)
    assert played.psnr.shape == played.probabilities.shape == (3, 4)
    assert played.frames.shape[1] == 7
    np.testing.assert_array_equal(played.frames[:, :2], np.stack([e.frames[:2] for e in episodes]))


def test_replay_refuses_episodes_of_unlike_lengths(tiny_world):
    first, second = recorded(tiny_world, 2)
    short = Episode(second.frames[:4], second.actions[:3], second.success[:4], "tiny", "walk", 1)
    with pytest.raises(ValueError, match=r"equally long .* got 4 frames \(seed 1\) beside 7"):
        replay(World.open(tiny_world), [first, short], progress=False)
    with pytest.raises(ValueError, match="longer than 7 frames"):
        replay(World.open(tiny_world), [first], given=7, progress=False)


@pytest.mark.slow
def test_the_command_audit_writes_facts_and_fails_a_random_world(tiny_world, tmp_path, capsys):
    for name, kinds in (("heldout", ("walk", "slow>walk")), ("probes", ("still", "above"))):
        (tmp_path / name).mkdir()
        for i, episode in enumerate(recorded(tiny_world, 4, kinds)):
            episode.save(tmp_path / name / f"{i}.npz")
    (tmp_path / "directions").mkdir()
    for i, episode in enumerate(recorded(tiny_world, 6, DIRECTIONS)):
        episode.save(tmp_path / "directions" / f"{i}.npz")
    arguments = ["--heldout", "heldout", "--probes", "probes", "--directions", "directions", "--out", "out"]
    paths = [str(tmp_path / a) if not a.startswith("--") else a for a in arguments]
    assert main(["audit", "--world", str(tiny_world), *paths]) == 1
    said = capsys.readouterr().out
    assert "not run  inverse_dynamics" in said
    assert "needs 20 held-out episodes beside those that are replayed, there are 0" in " ".join(said.split())
    report = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert report["replay"]["episodes"] == 4
    assert set(report["replay"]["psnr_by_behaviour_db"]) == {"walk", "slow"}
    assert set(report["optimism"]) == {"still", "above"}
    assert report["action_following"]["of"] == 6
    rows = report["detector_on_imagined"]["per_episode"]
    assert sum(v for k, v in rows.items() if k != "agreement") == 4
    for film in ("replay.mp4", "probe-still.mp4", "directions.mp4"):
        assert (tmp_path / "out" / film).stat().st_size > 0


def test_assembled_parts_are_a_world_that_steps(tiny_world, tmp_path):
    source = World.open(tiny_world)
    config = to_dict(source.config)
    values = {
        k: config[k] for k in ("name", "version", "frame_size", "fps", "horizon", "action", "instructions")
    }
    values |= {"sampler": config["sampler"], "detector": config["detector"]}
    values |= {"codec": str(tiny_world / "codec"), "unet": str(tiny_world / "unet")}
    values |= {"detector_weights": str(tiny_world / "detector"), "starts": str(tiny_world / "starts")}
    (tmp_path / "world.yaml").write_text(yaml.safe_dump(values))
    out = tmp_path / "world"
    assert main(["assemble", "--config", str(tmp_path / "world.yaml"), "--out", str(out)]) == 0
    env = gym.make("v2w_gym:Vid2World-v0", world=str(out))
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert World.open(out).config.horizon == source.config.horizon
    weights = next((out / "unet").glob("*.safetensors"))
    assert weights.stat().st_size < 0.6 * next((tiny_world / "unet").glob("*.safetensors")).stat().st_size


def test_weights_are_stored_as_one_of_255_values_per_channel():
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    weight *= torch.tensor([1.0, 1e-3, 127.0, 0.0, 3e4, 1e-30]).view(6, 1, 1, 1)
    stored = rounded(weight)
    assert stored.dtype is torch.bfloat16
    largest = weight.abs().amax((1, 2, 3))
    assert ((stored.float() - weight).abs().amax((1, 2, 3)) <= largest / 127 + 1e-36).all()
    for channel in stored.float().flatten(1):
        assert len(set(channel.tolist())) <= 255
    assert torch.equal(rounded(stored), stored)
    assert torch.equal(rounded(stored.float()), stored)
    vector = torch.randn(9)
    assert torch.equal(rounded(vector), vector.bfloat16())


def test_a_truncated_weights_file_is_named(tiny_world, tmp_path):
    folder = shutil.copytree(tiny_world, tmp_path / "world")
    weights = next((folder / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match="truncated or belongs to another world"):
        World.open(folder).model()


@pytest.mark.slow
def test_the_card_tells_data_steps_and_results(tiny_world, tmp_path):
    world, data = tmp_path / "world", tmp_path / "data"
    shutil.copytree(tiny_world, world)
    data.mkdir()
    for i, episode in enumerate(recorded(tiny_world, 3)):
        episode.save(data / f"{i}.npz")
    settings = tmp_path / "codec.yaml"
    loop = {"steps": 50, "batch_size": 2, "seed": 7, "sample_every": 50, "max_minutes": 1e-9}
    values = {
        "data": [str(data)],
        "videos": [str(data)],
        "heldout": str(data),
        "channels": [8, 8, 8],
        "loop": loop,
    }
    settings.write_text(yaml.safe_dump(values))
    for _ in range(2):  # stopped by the clock, and gone on with
        assert not stages.run("codec", settings, tmp_path / "codec")
    loop["max_minutes"] = 0.0
    settings.write_text(yaml.safe_dump(values))
    assert stages.run("codec", settings, tmp_path / "codec")
    assert len((tmp_path / "codec" / "legs.jsonl").read_text().splitlines()) == 3
    out = tmp_path / "out"
    assert main(["audit", "--world", str(world), "--heldout", str(data), "--out", str(out)]) in (0, 1)
    write_card(world, {"codec": str(tmp_path / "codec")}, out / "validation.json")
    card = (world / "README.md").read_text()
    assert "| codec | data 3 | 7 | 50 |" in card
    assert "replay of 3 held-out episodes" in card
    assert World.open(world).model().hash in card
    write_card(world, {"codec, second leg": str(tmp_path / "codec")}, out / "validation.json")
    later = (world / "README.md").read_text()
    assert later.count("| codec | data 3 | 7 | 50 |") == 1
    assert later.index("| codec |") < later.index("| codec, second leg |")
