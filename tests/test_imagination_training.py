"""Training in imagination: it learns, repeats, survives a kill, notices exploitation, acts from pixels."""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from dreamworld import Doubter, RightJudge, bump_dream, bumps
from tqdm import tqdm

from v2w_gym.cli import imagine
from v2w_gym.config import from_dict, load
from v2w_gym.data.episode import Episode
from v2w_gym.policies.actor import Actor, ActorConfig
from v2w_gym.policies.latent import LatentPolicy
from v2w_gym.policies.registry import resolve
from v2w_gym.training import stages
from v2w_gym.training.imagination import trainer
from v2w_gym.training.imagination.alarm import AlarmConfig
from v2w_gym.training.imagination.cloning import CloneConfig, clone
from v2w_gym.training.imagination.config import ImaginationConfig
from v2w_gym.training.imagination.critic import CriticConfig
from v2w_gym.training.imagination.journal import Journal
from v2w_gym.training.imagination.judging import JudgeConfig, distilled
from v2w_gym.training.imagination.learner import Learner, LearnerConfig
from v2w_gym.training.imagination.probing import Look, ProbeConfig
from v2w_gym.training.imagination.recordings import split
from v2w_gym.training.imagination.rollout import Branches, unroll
from v2w_gym.training.imagination.setting import Stage
from v2w_gym.training.imagination.trainer import Trainer, claim, train
from v2w_gym.training.loop import LoopConfig

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


def test_other_settings_do_not_go_on(sound, tmp_path):
    with pytest.raises(ValueError, match="a run with another slots; give it the same settings"):
        trainer_in(sound, config_of(slots=16))
    claim(config_of(), tmp_path)  # killed before the first checkpoint: a clone, a judge may lie there
    with pytest.raises(ValueError, match="a run with another seed"):
        train(config_of(seed=1), tmp_path)


def test_a_line_that_was_cut_is_made_again(tmp_path):
    journal = Journal(tmp_path, 0)
    for update in (1, 2):
        journal.write(update, {"minutes": 0.5})
    journal.path.write_text(journal.path.read_text() + '{"update": 3, "minu')
    again = Journal(tmp_path, 2)
    again.write(3, {"minutes": 0.7})
    assert [line["update"] for line in again.lines()] == [1, 2, 3]


def test_an_episode_stays_on_its_side_whatever_lies_beside_it():
    found = bumps(40)
    files = tuple(Path(f"{i:03d}.npz") for i in range(40))
    few, many = (dataclasses.replace(found, files=files).part(np.arange(n)) for n in (20, 40))
    for share in (0.05, 0.3):
        sides = [[{file.name for file in side.files} for side in split(part, share)] for part in (few, many)]
        assert all(learned and held and not learned & held for learned, held in sides)
        assert not sides[0][0] & sides[1][1]  # what was learned from is never looked at later
    assert [len(part) for part in split(few.part(np.arange(2)), 1e-9)] == [1, 1]
    with pytest.raises(ValueError, match="at least 2 recorded episodes"):
        split(few.part(np.zeros(3, np.intp)), 0.5)


def test_a_clone_is_made_where_the_run_is():
    loop = LoopConfig(steps=2, batch_size=4, precision="fp32", device="meta")
    actor, found = Actor((1, 4, 4), 2, SMALL), bumps(4)
    before = actor.head.weight.clone()
    with tempfile.TemporaryDirectory() as folder:
        clone(CloneConfig(loop=loop), found, actor, "", Path(folder))
    assert actor.head.weight.device.type == "cpu"
    assert (actor.head.weight != before).any()


def test_reality_begins_from_the_starts_of_the_ranking(tiny_world):
    assert imagine._seeds(str(tiny_world), 3) == [7, 42, 43]


def test_a_planted_exploit_raises_the_alarm_and_stops(tmp_path):
    """The judge also rewards the first column, which is nearer; only the auditor knows better."""
    config = config_of(alarm=AlarmConfig(over=2, stop=True), updates=60)
    run = trainer_in(tmp_path, config, judge=RightJudge(fooled=True))
    assert not run.fit()
    assert run.stopped == "alarm"
    assert "agreement fell" in lines(tmp_path)[-2]["alarm"][0]
    assert lines(tmp_path)[-1]["stopped"] == "alarm"
    assert looks(tmp_path)[-1] > looks(tmp_path, "look_confirmed")[-1] + 0.3
    assert not trainer_in(tmp_path, config).fit()  # it stays stopped


def test_patience_ends_a_run_that_gets_no_better(tmp_path):
    still = dataclasses.replace(QUICK, warmup=1000)  # the actor never learns
    run = trainer_in(tmp_path, config_of(learner=still, look=ProbeConfig(4, 16, 8, patience=2)))
    run.best.score = 1.0
    assert not run.fit()
    assert (run.stopped, run.learner.updates) == ("patience", 4)


def finds(run, monkeypatch, *found):
    """Let the run look once for each of ``found``: (won, confirmed)."""
    for won, confirmed in found:
        seen = Look(tuple(won), confirmed, credibility=0.9)
        monkeypatch.setattr(trainer, "look", lambda *_, seen=seen: seen)
        run._look(tqdm(disable=True))


def test_a_look_that_is_as_good_as_the_best_is_no_better_one(tmp_path, monkeypatch):
    run = trainer_in(tmp_path, config_of(look=ProbeConfig(4, 16, 8, patience=2)))
    finds(run, monkeypatch, ([True], 0.4), ([True], 0.5), ([True], 0.5))
    assert not run.stopped
    finds(run, monkeypatch, ([True], 0.5))
    assert run.stopped == "patience"


def test_reality_is_a_trust_that_only_optimism_lowers(tmp_path, monkeypatch):
    """By the same starts: the first four of a look."""
    run = trainer_in(tmp_path, config_of(look=ProbeConfig(4, 16, 8, real=4)))
    real = {"flags": [True, False, False, False]}
    monkeypatch.setattr(run, "_real", lambda files: real["flags"])
    won = [True] * 2 + [False] * 2
    finds(run, monkeypatch, ([*won, *won], 0.5), ([*won, *[True] * 4], 0.5))
    real["flags"] = [True] * 4
    finds(run, monkeypatch, ([*won, *[True] * 4], 0.5))
    assert run.alarm.state_dict()["trusts"]["reality"] == [0.75, 0.75, 1.0]
    assert looks(tmp_path, "look_real") == [0.25, 0.25, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize(("doubt", "anchor"), [("ignore", 1e-3), ("weigh", 1e-3), ("cut", 0.0)])
def test_it_learns_with_doubt_and_anchor_and_goes_on(tmp_path, doubt, anchor):
    learner = dataclasses.replace(QUICK, anchor=anchor)

    def run(updates, folder):
        config = config_of(learner=learner, doubt=doubt, updates=updates)
        trained = trainer_in(folder, config, believer=Doubter(), doubt=doubt)
        assert trained.fit()

    run(20, tmp_path / "whole")
    run(8, tmp_path / "parts")
    run(20, tmp_path / "parts")
    assert told(tmp_path / "whole") == told(tmp_path / "parts")
    assert looks(tmp_path / "whole")[-1] >= 0.9
    assert all(0 < value < 1 for value in looks(tmp_path / "whole", "look_credibility"))
    moved = [line["divergence"] for line in lines(tmp_path / "whole") if "divergence" in line]
    assert len(moved) == (19 if anchor else 0)
    assert all(np.isfinite(moved))


def test_the_first_steps_of_the_actor_are_small(tmp_path):
    """Adam's are of full length whatever the gradient is worth, and would throw a warm start about."""
    config = config_of(learner=dataclasses.replace(QUICK, warmup=3), updates=12, look=ProbeConfig(50, 4, 2))
    trainer_in(tmp_path, config).fit()
    off = [line["ratio_off"] for line in lines(tmp_path) if "ratio_off" in line]
    assert len(off) == 9
    assert off[0] < 0.5 * np.mean(off[3:])


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
    for kind, values in (
        (ProbeConfig, {"every": 0}),
        (ProbeConfig, {"real": -1}),
        (LearnerConfig, {"range_floor": 0.0}),
        (LearnerConfig, {"anchor": -1.0}),
        (JudgeConfig, {"episodes": 1}),
        (CloneConfig, {"episodes": 0}),
    ):
        with pytest.raises(ValueError, match=r"at least|above|not be negative"):
            kind(**values)
    with pytest.raises(ValueError, match="the judge needs at least 2"):
        distilled(bumps(1), RightJudge(), JudgeConfig(), 0, Path("nowhere.pt"))


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
