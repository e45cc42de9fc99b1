"""Credibility: told by every environment, a value of the state, low where the world has never been."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from believing import filmed, noise, recordings, scenes, teach

import v2w_gym
from v2w_gym.cli import main
from v2w_gym.envs.integrity import write_hashes
from v2w_gym.evaluation import credibility as checking
from v2w_gym.training.credibility import FitConfig
from v2w_gym.training.strange import STRANGE, slight
from v2w_gym.world_model.credibility import Credibility, CredibilityConfig

SLOTS, STEPS = 3, 4
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (STEPS, SLOTS, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def believing_world(tiny_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("believing")
    world = v2w_gym.World.open(shutil.copytree(tiny_world, folder / "world"))
    data = filmed(folder / "data", 30)
    calibration = recordings(world, folder / "calibration", scenes(8, seed=1), 6, seed=1)
    teach(world, data, calibration).save_pretrained(world.folder / "credibility")
    write_hashes(world.folder)
    return world.folder


def with_values(source, target, **changes):
    """A copy of a world whose credibility has other values in its ``config.json``."""
    shutil.copytree(source, target)
    config = target / "credibility" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    write_hashes(target)
    return target


def told(env, actions=ACTIONS, **reset):
    """Credibility ``(1 + steps, slots)`` after the reset and each step."""
    _, infos = env.reset(**reset)
    found = [infos["credibility"]]
    for action in actions:
        found.append(env.step(action)[4]["credibility"])
    return np.stack([np.asarray(row) for row in found])


def vector(world, slots=SLOTS, **settings):
    return v2w_gym.WorldModelVectorEnv(slots, world, terminate_on_success=False, **settings)


def test_slots_tell_a_float32_between_0_and_1_which_is_that_of_a_single_environment(believing_world):
    envs = vector(believing_world)
    together = told(envs, seed=3)
    assert together.dtype == np.float32
    assert ((together >= 0) & (together <= 1)).all()
    assert len(np.unique(together)) > SLOTS
    for i in range(SLOTS):
        env = v2w_gym.WorldModelEnv(believing_world, terminate_on_success=False)
        alone = told(env, ACTIONS[:, i], seed=3 + i)
        np.testing.assert_allclose(together[:, i], alone, atol=1e-3)
    _, info = env.reset(seed=0)
    assert isinstance(info["credibility"], float)


def test_slots_that_were_not_reset_are_masked(believing_world):
    envs = vector(believing_world, autoreset_mode="disabled")
    envs.reset(seed=0)
    mask = np.array([True, False, True])
    _, infos = envs.reset(seed=1, options={"reset_mask": mask})
    np.testing.assert_array_equal(infos["_credibility"], mask)
    assert infos["credibility"][1] == 0


def test_tensors_and_chunks_tell_the_same(believing_world):
    expected = told(vector(believing_world), seed=3)
    tensors = vector(believing_world, output="torch")
    _, infos = tensors.reset(seed=3)
    assert isinstance(infos["credibility"], torch.Tensor)
    assert infos["credibility"].dtype == torch.float32
    chunk = tensors.step_chunk(ACTIONS.swapaxes(0, 1))[4]["chunk"]["credibility"]
    np.testing.assert_array_equal(chunk.numpy().T, expected[1:])


def test_it_goes_back_and_branches_with_the_episode(believing_world):
    envs = vector(believing_world)
    told(envs, ACTIONS[:2], seed=3)
    kept = envs.snapshot()
    expected = [envs.step(action)[4]["credibility"] for action in ACTIONS[2:]]
    envs.restore(kept)
    again = [envs.step(action)[4]["credibility"] for action in ACTIONS[2:]]
    np.testing.assert_array_equal(again, expected)
    envs.restore(kept)
    branches = envs.fork(1, 2)
    along = [branches.step(action[[1, 1]])[4]["credibility"] for action in ACTIONS[2:]]
    np.testing.assert_allclose(along, np.stack(expected)[:, [1, 1]], atol=1e-3)


def test_a_wildly_foreign_start_is_less_credible(believing_world):
    env = vector(believing_world, 2, autoreset_mode="disabled")
    frames = np.stack([scenes(1, seed=5), noise(1)])
    found = told(env, ACTIONS[:, :2], options={"frames": frames, "actions": np.zeros((2, 0, 4), np.float32)})
    assert (
        found[1:, 1] < 0.1 * found[1:, 0]
    ).all()  # not at the reset: an untrained codec gives nothing back


def test_by_option_what_is_not_credible_ends_and_says_why(believing_world, tmp_path):
    doubter = with_values(believing_world, tmp_path / "doubter", credible_from=1.0)
    envs = vector(doubter, stop_when_not_credible=True)
    _, infos = envs.reset(seed=0)
    assert list(infos["truncated_because"]) == [""] * SLOTS
    _, _, terminated, truncated, infos = envs.step(ACTIONS[0])
    assert truncated.all()
    assert not terminated.any()
    assert list(infos["final_info"]["truncated_because"]) == ["not credible"] * SLOTS
    trusting = with_values(believing_world, tmp_path / "trusting", credible_from=0.0)
    env = v2w_gym.WorldModelEnv(trusting, terminate_on_success=False, stop_when_not_credible=True, horizon=2)
    env.reset(seed=0)
    assert env.step(ACTIONS[0, 0])[3:][1]["truncated_because"] == ""
    *_, truncated, info = env.step(ACTIONS[1, 0])
    assert (truncated, info["truncated_because"]) == (True, "horizon")


def test_a_chunk_stops_where_it_is_no_longer_credible(believing_world, tmp_path):
    doubter = with_values(believing_world, tmp_path / "doubter", credible_from=1.0)
    env = v2w_gym.WorldModelEnv(doubter, terminate_on_success=False, stop_when_not_credible=True)
    env.reset(seed=0)
    *_, truncated, info = env.step_chunk(ACTIONS[:, 0])
    assert truncated
    assert info["chunk"]["executed"] == 1


def test_a_world_that_cannot_tell_is_as_it_was(tiny_world, believing_world):
    env = v2w_gym.WorldModelEnv(tiny_world)
    assert "credibility" not in env.reset(seed=0)[1]
    assert v2w_gym.World.open(tiny_world).credible_from is None
    assert v2w_gym.World.open(believing_world).credible_from == 0.5
    with pytest.raises(ValueError, match="v2w credibility fit"):
        v2w_gym.WorldModelEnv(tiny_world, stop_when_not_credible=True)
    with pytest.raises(ValueError, match="leave credibility=False out"):
        v2w_gym.WorldModelEnv(believing_world, credibility=False, stop_when_not_credible=True)
    without = v2w_gym.WorldModelEnv(believing_world, credibility=False)
    np.testing.assert_array_equal(without.reset(seed=1)[0]["pixels"], env.reset(seed=1)[0]["pixels"])
    assert "credibility" not in without.step(ACTIONS[0, 0])[4]


def test_it_says_nothing_of_a_model_that_it_was_not_made_for(believing_world, tiny_model, tmp_path):
    env = v2w_gym.WorldModelEnv(believing_world, model=tiny_model())
    assert "credibility" not in env.reset(seed=0)[1]
    other = {"weights": {"unet/diffusion_pytorch_model.safetensors": "0" * 64}}
    stale = with_values(believing_world, tmp_path / "stale", **other)
    with pytest.raises(ValueError, match=r"another unet/diffusion.*v2w credibility fit"):
        v2w_gym.World.open(stale).believer()


def test_the_folder_round_trips_and_refuses_what_it_does_not_know(believing_world, tmp_path):
    made = Credibility.from_pretrained(believing_world / "credibility")
    made.save_pretrained(tmp_path / "again")
    again = Credibility.from_pretrained(tmp_path / "again")
    assert again.config == made.config
    for name, value in made.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=0, rtol=0)
    odd = with_values(believing_world, tmp_path / "odd", tolerence=3.0)
    with pytest.raises(ValueError, match=r"unknown key 'tolerence'.*did you mean 'tolerance'"):
        Credibility.from_pretrained(odd / "credibility")
    with pytest.raises(ValueError, match="tolerance above 0"):
        dataclasses.replace(made.config, tolerance=0.0)
    (tmp_path / "again" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="v2w credibility fit"):
        Credibility.from_pretrained(tmp_path / "again")


def test_a_smaller_expected_error_is_more_credible():
    made = Credibility(CredibilityConfig((4, 6, 6), 4, axes=128))
    rightness = made.rightness(torch.linspace(-2, 12, 50))
    assert (rightness.diff() < 0).all()
    assert float(made.rightness(torch.tensor(2 * np.log(16.0)))) == pytest.approx(0.5)


def test_strange_pictures_differ_and_slight_changes_do_not_matter():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    frame = np.stack([3 * x, 2 * y, 255 - 2 * x], axis=-1).astype(np.uint8)
    for change in STRANGE:
        far = [np.abs(change(frame, rng).astype(int) - frame).max() for _ in range(20)]
        assert np.median(far) > 8, change.__name__
        assert change(frame, rng).shape == frame.shape
    near = [np.abs(slight(frame, rng).astype(int) - frame).mean() for _ in range(20)]
    assert max(near) < 4


def test_errors_are_not_calibrated_on_what_the_world_has_learned(tmp_path):
    with pytest.raises(ValueError, match="among the data that the world was trained on"):
        FitConfig((str(tmp_path / "other"), str(tmp_path / "data")), str(tmp_path / "other" / ".." / "data"))


def test_area_and_rank_correlation_by_hand():
    assert checking.auroc(doubtful=[0.1, 0.2], sound=[0.3, 0.4]) == 1.0
    assert checking.auroc(doubtful=[0.3, 0.1], sound=[0.2, 0.3]) == pytest.approx(2.5 / 4)
    assert checking.foresight(np.array([0.9, 0.5, 0.1]), np.array([1.0, 2.0, 9.0])) == pytest.approx(1.0)
    assert checking.foresight(np.array([0.9, 0.5, 0.1]), np.array([9.0, 2.0, 1.0])) == pytest.approx(-1.0)
    assert np.isnan(checking.foresight(np.array([0.5, 0.5]), np.array([1.0, 2.0])))


def test_what_is_undefined_is_no_number_in_the_report(monkeypatch):
    monkeypatch.setattr(checking, "_DRAWS", 5)
    one = checking.Believed(np.array([[0.9, 0.5]]), np.array([[4.0, 8.0]]))
    report = checking._at_home(one, 16.0, 0.5)
    assert report["spearman_episode"] == {"value": None, "low": None, "high": None}
    assert report["spearman_step"]["value"] == pytest.approx(1.0)
    json.dumps(report, allow_nan=False)
    assert checking._shown(report["spearman_episode"]) == "- [-, -]"


@pytest.mark.slow
def test_the_check_tells_strange_episodes_from_held_out_ones(believing_world, tmp_path, capsys):
    world = v2w_gym.World.open(believing_world)
    heldout = recordings(world, tmp_path / "heldout", scenes(6, seed=2), 4, seed=2)
    strange = recordings(world, tmp_path / "noise", noise(5), 4, seed=3)
    folders = ["--heldout", str(heldout), "--out", str(tmp_path / "out"), str(strange)]
    assert main(["credibility", "check", "--world", str(believing_world), *folders]) == 0
    report = json.loads((tmp_path / "out" / "credibility.json").read_text())
    assert report["heldout"]["episodes"] == 6
    entry = report["shifts"]["noise"]
    assert entry["auroc"]["low"] <= entry["auroc"]["value"] <= entry["auroc"]["high"]
    assert entry["credibility"] < report["heldout"]["credibility"]
    assert "noise" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_teaches_a_world_and_hashes_it(tiny_world, tmp_path, capsys):
    world = v2w_gym.World.open(shutil.copytree(tiny_world, tmp_path / "world"))
    data = filmed(tmp_path / "data", 30)
    replayed = recordings(world, tmp_path / "replayed", scenes(8), 6)
    command = ["credibility", "fit", "--world", str(world.folder), "--data", str(data), "--pictures", "180"]
    few = recordings(world, tmp_path / "few", scenes(2), 6)
    assert main([*command, "--calibration", str(few)]) == 2
    assert "record more" in capsys.readouterr().err
    assert main([*command, "--calibration", str(replayed), "--episodes", "8"]) == 0
    assert "credibility" in v2w_gym.WorldModelEnv(world.folder).reset(seed=0)[1]
