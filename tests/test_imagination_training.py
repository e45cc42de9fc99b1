"""Training in imagination: it learns, repeats, survives a kill, notices exploitation, acts from pixels."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dreamworld import RightJudge, bump_dream, bumps

from v2w_gym.config import from_dict, load
from v2w_gym.data.episode import Episode
from v2w_gym.policies.actor import Actor, ActorConfig
from v2w_gym.policies.latent import LatentPolicy
from v2w_gym.policies.registry import resolve
from v2w_gym.training import stages
from v2w_gym.training.imagination.alarm import AlarmConfig
from v2w_gym.training.imagination.config import ImaginationConfig
from v2w_gym.training.imagination.critic import CriticConfig
from v2w_gym.training.imagination.learner import Learner, LearnerConfig
from v2w_gym.training.imagination.probing import ProbeConfig
from v2w_gym.training.imagination.rollout import Branches, unroll
from v2w_gym.training.imagination.setting import Stage
from v2w_gym.training.imagination.trainer import Trainer, train

ROOT = Path(__file__).parents[1]
SMALL = ActorConfig((4, 4), 2, 16)
QUICK = LearnerConfig(
    epochs=2,
    actor_rate=8e-3,
    critic_rate=8e-3,
    warmup=1,
    range_floor=0.1,
    critic=CriticConfig((4, 4), 2, 16, bins=15),
)


def config_of(**changes) -> ImaginationConfig:
    config = ImaginationConfig(
        data=("toy",),
        updates=16,
        slots=24,
        unroll=6,
        longest=8,
        moments=3,
        learner=QUICK,
        look=ProbeConfig(every=4, episodes=16, steps=8),
        alarm=AlarmConfig(over=2),
        checkpoint_every=4,
    )
    return dataclasses.replace(config, **changes)


def trainer_in(folder, config, **dream) -> Trainer:
    torch.manual_seed(config.seed)
    actor = Actor((1, 4, 4), 2, SMALL)
    parts = Stage(bump_dream(**dream), RightJudge(), bumps(40), bumps(16), horizon=8, moments=3)
    return Trainer(config, parts, Learner(actor, config.learner), folder, model=None)


def lines(folder):
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


def looks(folder, name="look_success"):
    return [line[name] for line in lines(folder) if name in line]


def told(folder):
    """All lines without clocks."""
    clocks = ("minutes", "seconds_renew", "seconds_imagine", "seconds_learn")
    return [{k: v for k, v in line.items() if k not in clocks} for line in lines(folder)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    assert trainer_in(folder, config_of()).fit()
    return folder


def test_the_actor_improves(sound):
    found = looks(sound)
    assert found[0] <= 0.2
    assert max(found) >= 0.9


def test_a_sound_run_raises_no_alarm(sound):
    assert not any("alarm" in line for line in lines(sound))
    assert min(looks(sound, "look_agreement")) == 1.0
    assert (sound / "progress.png").stat().st_size > 5000


def test_the_same_seed_gives_the_same_run_and_a_kill_changes_nothing(sound, tmp_path):
    """Stopped dead three updates after a checkpoint, which are made again."""
    first = trainer_in(tmp_path, config_of())
    update = first._update

    def killed():
        if first.learner.updates == 11:
            raise KeyboardInterrupt
        return update()

    first._update = killed
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    assert max(line["update"] for line in lines(tmp_path)) == 11
    second = trainer_in(tmp_path, config_of())
    assert second.learner.updates == 8
    assert second.fit()
    assert told(tmp_path) == told(sound)
    ends = [torch.load(folder / "checkpoint.pt")["learner"]["modules"] for folder in (tmp_path, sound)]
    for name, weights in ends[0].items():
        for key, value in weights.items():
            assert torch.equal(value, ends[1][name][key]), (name, key)


def test_other_settings_do_not_go_on(sound):
    with pytest.raises(ValueError, match="a run with another slots; give it the same settings"):
        trainer_in(sound, config_of(slots=16))


def test_a_planted_exploit_raises_the_alarm_and_stops(tmp_path):
    """The judge also rewards the first column, which is nearer; only the auditor knows better."""
    config = config_of(alarm=AlarmConfig(over=2, stop=True), updates=60)
    run = trainer_in(tmp_path, config, judge=RightJudge(fooled=True))
    assert not run.fit()
    assert run.stopped == "alarm"
    assert "agreement fell" in lines(tmp_path)[-1]["alarm"][0]
    assert looks(tmp_path)[-1] > looks(tmp_path, "look_confirmed")[-1] + 0.3
    assert not trainer_in(tmp_path, config).fit()  # it stays stopped


def test_patience_ends_a_run_that_gets_no_better(tmp_path):
    still = dataclasses.replace(QUICK, warmup=1000)  # the actor never learns
    run = trainer_in(tmp_path, config_of(learner=still, look=ProbeConfig(4, 16, 8, patience=2)))
    run.best.score = 1.0
    assert not run.fit()
    assert (run.stopped, run.learner.updates) == ("patience", 4)


def test_the_anchor_holds_the_actor_back():
    moved = []
    for anchor in (0.0, 10.0):
        torch.manual_seed(0)
        learner = Learner(Actor((1, 4, 4), 2, SMALL), dataclasses.replace(QUICK, anchor=anchor, warmup=0))
        latents = bumps(32).latents[:, 0].float()
        state = bump_dream().dynamics.init(latents[:, None], latents.new_zeros(32, 0, 2), range(32))
        drawn = torch.Generator().manual_seed(0)
        batch, _ = unroll(bump_dream(), learner.actor, Branches.of(state, torch.full((32,), 8)), 3, drawn)
        batch["next", "reward"] = batch["action"][..., 0]  # pushing right pays at once
        for _ in range(3):
            assert learner.update(batch, drawn)["actor_norm"] > 0
        with torch.no_grad():
            moved.append(float((learner.actor(latents)[0] - learner.origin(latents)[0])[:, 0].mean()))
    assert moved[0] > 0.05
    assert abs(moved[1]) < 0.3 * moved[0]


def test_unknown_and_senseless_settings_are_errors():
    with pytest.raises(ValueError, match="did you mean 'unroll'"):
        from_dict(ImaginationConfig, {"data": ["x"], "unrol": 3})
    with pytest.raises(ValueError, match="slots must be at least 1"):
        ImaginationConfig(("x",), slots=0)
    with pytest.raises(ValueError, match="leave one of them out"):
        from_dict(ImaginationConfig, {"data": ["x"], "init": "a", "clone": {"teacher": "linear"}})
    with pytest.raises(ValueError, match="least < start < most"):
        ActorConfig(start=2.0)


def record(folder, count=4, frames=7):
    """Films of noise that fit the tiny world."""
    folder.mkdir()
    for seed in range(count):
        rng = np.random.default_rng(seed)
        film = rng.integers(0, 256, (frames, 48, 48, 3), dtype=np.uint8)
        actions = rng.uniform(-1, 1, (frames - 1, 4)).astype(np.float32)
        flags = np.arange(frames) >= (4 if seed % 2 else frames)
        Episode(film, actions, flags, "noise", "walk", seed).save(folder / f"{seed}.npz")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("reward", ["latent", "decoded"])
def test_from_recordings_to_a_policy_that_acts_on_pixels(tiny_world, tmp_path, reward):
    data = record(tmp_path / "data")
    (tmp_path / "config.yaml").write_text(
        f"data: [{data}]\nworld: {tiny_world}\nreward: {reward}\nupdates: 4\nslots: 3\nunroll: 2\n"
        "longest: 4\nmoments: 3\nheldout: 0.25\ncheckpoint_every: 2\n"
        "clone: {teacher: random, loop: {steps: 3, batch_size: 4}}\n"
        "judge: {episodes: 4, steps: 3, batch_size: 4}\nlook: {every: 2, episodes: 2, steps: 3}\n"
    )
    out = tmp_path / "out"
    assert stages.run("imagination", tmp_path / "config.yaml", out, ["seed=1"])
    policy = resolve(f"latent:{out / 'policy.safetensors'}")
    pixels = Episode.load(data / "0.npz").frames
    actions = policy.act({"pixels": pixels})
    assert actions.shape == (7, 4)
    assert np.abs(actions).max() <= 1
    np.testing.assert_allclose(policy.act({"pixels": pixels[2:3]})[0], actions[2], atol=1e-5)
    with pytest.raises(ValueError, match="pixels must"):
        policy.act({"pixels": pixels[:, :32]})
    last = out / "last.safetensors"
    values = {"data": (str(data),), "world": str(tiny_world), "init": str(last), "updates": 1}
    small = {"slots": 2, "unroll": 1, "judge": {"episodes": 2, "steps": 1}, "look": {"episodes": 1}}
    again = from_dict(ImaginationConfig, {**values, **small})
    assert train(again, tmp_path / "again")
    start = LatentPolicy.load(tmp_path / "again" / "start.safetensors")
    same = resolve(f"latent:{last}").act({"pixels": pixels})
    np.testing.assert_allclose(start.act({"pixels": pixels}), same, atol=2e-3)


def test_a_file_of_another_kind_is_no_latent_policy():
    with pytest.raises(ValueError, match="holds no policy that acts on latents"):
        resolve("latent:policies/weights/full-1500.safetensors")
    with pytest.raises(ValueError, match=r"nothing\.safetensors"):
        resolve("latent:nothing.safetensors")


def test_tensorboard_where_it_is_wanted(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    config = config_of(updates=1, tensorboard=True)
    trainer_in(tmp_path / "with", config).fit()
    assert list((tmp_path / "with" / "tensorboard").glob("events*"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r'pip install "v2w_gym\[tensorboard\]"'):
        trainer_in(tmp_path / "without", config)


def test_the_page_names_every_setting():
    page = (ROOT / "docs" / "imagination.md").read_text()
    for field in dataclasses.fields(ImaginationConfig):
        assert f"`{field.name}`" in page, field.name
        if field.default not in (dataclasses.MISSING, None):
            assert f"| `{field.name}` | `{field.default}` |" in page, field.name


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "imagination").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_settings_load(path):
    assert load(ImaginationConfig, path).checkpoint_every <= 50  # all branches begin anew, but not too often
