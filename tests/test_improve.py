"""Rounds of improvement: what they find, that a kill changes nothing, what is refused before recording."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from v2w_gym import cli
from v2w_gym.config import from_dict, load
from v2w_gym.data.episode import Episode, EpisodeFolder
from v2w_gym.envs.world import World
from v2w_gym.evaluation.fidelity import Replays
from v2w_gym.training.assemble import assemble
from v2w_gym.training.improving.config import CheckConfig, ImproveConfig, PlayConfig
from v2w_gym.training.improving.learning import _parts
from v2w_gym.training.improving.notes import Notes
from v2w_gym.training.improving.parts import DISTURBED, Fidelity
from v2w_gym.training.improving.realities import Brought, MetaWorld
from v2w_gym.training.improving.rounds import improve
from v2w_gym.training.improving.validation import _check_world
from v2w_gym.training.improving.verdict import objections

slow = pytest.mark.slow
STEPS = 6
ROOT = Path(__file__).parents[1]


def episode(seed: int, behaviour: str = "policy:toy", steps: int = STEPS, side: int = 48) -> Episode:
    """A bright square that actions push about; to the right of the middle is success."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (steps, 4)).astype(np.float32)
    frames = np.full((steps + 1, side, side, 3), 40, np.uint8)
    across = np.clip(side / 2 - 8 + np.cumsum([0, *(8 * actions[:, 0])]), 0, side - 9).astype(int)
    for frame, x in zip(frames, across, strict=True):
        frame[20:28, x : x + 8] = 220
    flags = across > side / 2 - 8
    flags[0] = False
    return Episode(frames, actions, flags, "toy", behaviour, seed)


def recorded(folder: Path, seeds: range, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        episode(seed, **changes).save(folder / f"{seed:04d}.npz")
    return folder


@dataclasses.dataclass
class ToyReality:
    """Plays six episodes a round, of which one is disturbed."""

    played: list = dataclasses.field(default_factory=list)

    def check(self, world, rounds, taken):
        self.taken = taken

    def play(self, policy, folder, number):
        self.played.append((number, policy))
        recorded(folder, range(100 * number, 100 * number + 5))
        recorded(folder, range(100 * number + 50, 100 * number + 51), behaviour=f"policy:toy{DISTURBED}")
        return None


@pytest.fixture(scope="module")
def settings(tiny_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("improve")
    return from_dict(
        ImproveConfig,
        {
            "policy": "random",
            "world": str(tiny_world),
            "data": [str(recorded(folder / "data", range(4)))],
            "heldout": str(recorded(folder / "heldout", range(10, 13))),
            "play": {"reality": "folder", "episodes": 5, "disturbed": 0},
            "finetune": {"weight": 2, "own_history": 0.2, "loop": SMALL_LOOP},
            "check": {"psnr_db": 50, "agreement": 1, "false_success": 1},
        },
    )


SMALL_LOOP = {
    "steps": 2,
    "batch_size": 1,
    "warmup": 1,
    "precision": "fp32",
    "device": "cpu",
    "checkpoint_every": 1,
}


@pytest.fixture(scope="module")
def done(settings, tmp_path_factory):
    """Two rounds with a policy that stays as it is."""
    out, reality = tmp_path_factory.mktemp("done"), ToyReality()
    assert improve(settings, out, reality, Replays()) is None
    return out, reality


def rows(out: Path) -> list[dict]:
    """The table without clocks and places."""
    found = json.loads((out / "improve.json").read_text())["rounds"]
    return [{k: v for k, v in row.items() if not k.startswith("minutes")} for row in found]


@slow
def test_a_round_plays_learns_and_checks(done, settings, tiny_world):
    out, reality = done
    assert reality.played == [(1, "random"), (2, "random")]
    assert {0, 1, 2, 3, 10, 11, 12, 7, 42, 43, 99} == reality.taken
    first, second = rows(out)
    real = np.mean([episode(seed).succeeded for seed in range(100, 105)])
    assert (first["real_success"], first["episodes"]) == (real, 5)
    assert [first["taken_over"], second["taken_over"]] == [True, True]
    for row in (first, second):
        assert all(0 <= value <= 1 for value in row["imagined_success"])
        assert row["replay"]["new"]["episodes"] == [2, 2]
        assert row["replay"]["old"]["episodes"] == [3, 3]
    # the second round begins where the first ended, and is asked the same of the old episodes
    assert [x["psnr_db"][i] for x, i in ((first["replay"]["old"], 1), (second["replay"]["old"], 0))] == (
        [first["replay"]["old"]["psnr_db"][1]] * 2
    )
    assert (out / "improve.png").stat().st_size > 5000
    assert World.open(tiny_world).config.version + 2 == World.open(out / "round-2" / "world").config.version


@slow
def test_the_new_world_is_whole_and_differs_in_its_network_alone(done, tiny_world):
    folder = done[0] / "round-1" / "world"
    before, new = World.open(tiny_world), World.open(folder)
    assert new.reality() == before.reality()
    assert new.starts().ids == before.starts().ids
    new.detector()
    changed = {name for name, digest in new.config.hashes.items() if before.config.hashes.get(name) != digest}
    assert "unet/diffusion_pytorch_model.safetensors" in changed
    assert not [name for name in changed if name.split("/")[0] in ("starts", "detector", "reality.json")]
    assert "fine-tuned for 2 steps" in (folder / "README.md").read_text()


@slow
def test_held_out_play_is_not_learned_from(done):
    folder = done[0] / "round-1"
    learned, held = ({e.seed for e in EpisodeFolder(folder / name)} for name in ("learn", "heldout"))
    assert not learned & held
    assert learned | held == {100, 101, 102, 103, 104, 150}


@slow
def test_a_finished_run_does_nothing_again_and_takes_no_other_settings(done, settings):
    out, reality = done
    before = (out / "round-1" / "steps.json").read_bytes()
    assert improve(settings, out, reality, Replays()) is None
    assert len(reality.played) == 2
    assert (out / "round-1" / "steps.json").read_bytes() == before
    changed = dataclasses.replace(settings, finetune=dataclasses.replace(settings.finetune, weight=3), seed=1)
    with pytest.raises(ValueError, match=r"another finetune\.weight, seed; give it the same settings"):
        improve(changed, out, reality, Replays())


@slow
@pytest.mark.parametrize("after", ["play", "fidelity_before", "finetune", "build"])
def test_a_kill_changes_nothing(done, settings, tmp_path, monkeypatch, after):
    """Stopped dead in the step after a given one: its work is done, its result not yet written down."""
    real = Notes.once

    def killed(self, name, work):
        if after in self.steps and name not in self.steps:
            work()
            raise KeyboardInterrupt
        return real(self, name, work)

    one = dataclasses.replace(settings, rounds=1)
    with monkeypatch.context() as patch:
        patch.setattr(Notes, "once", killed)
        with pytest.raises(KeyboardInterrupt):
            improve(one, tmp_path, ToyReality(), Replays())
    assert improve(one, tmp_path, ToyReality(), Replays()) is None
    assert rows(tmp_path) == rows(done[0])[:1]


class Harsh(Replays):
    """Finds every new world worse on old episodes."""

    def fidelity(self, world, episodes):
        found = super().fidelity(world, episodes)
        worse = "round-" in str(world) and len(episodes) == 3
        return dataclasses.replace(found, psnr_db=found.psnr_db - 99 * worse)


@slow
def test_a_worse_world_is_not_taken_over_and_that_is_said(settings, tmp_path, capsys):
    assert improve(settings, tmp_path, ToyReality(), Harsh()) is None
    first, second = rows(tmp_path)
    assert (first["taken_over"], second["taken_over"]) == (False, False)
    assert "on the old held-out episodes PSNR went from" in first["objections"][0]
    old = [row["replay"]["old"]["psnr_db"][0] for row in (first, second)]
    assert old[0] == old[1]  # the second round begins with the first world again
    assert "not taken over: on the old held-out episodes" in capsys.readouterr().out
    assert "It was not taken over" in (tmp_path / "round-1" / "world" / "README.md").read_text()


class Wearing(Replays):
    """Finds that each round costs 30 dB on old episodes, with a margin of 50."""

    def fidelity(self, world, episodes):
        found = super().fidelity(world, episodes)
        rounds = int(Path(world).parent.name.removeprefix("round-")) if "round-" in str(world) else 0
        return dataclasses.replace(found, psnr_db=30 - 30.0 * rounds * (len(episodes) == 3))


@slow
def test_small_losses_do_not_add_up(settings, tmp_path):
    assert improve(settings, tmp_path, ToyReality(), Wearing()) is None
    first, second = rows(tmp_path)
    assert (first["taken_over"], second["taken_over"]) == (True, False)
    assert "from 30.00 to -30.00 dB" in second["objections"][0]


def test_margins():
    was = Fidelity(100, 25.0, 0.90, 0.05)
    margins = CheckConfig(psnr_db=0.3, agreement=0.05, false_success=0.02)

    def against(**worse):
        return objections(
            {"new": was, "old": was}, {"new": dataclasses.replace(was, **worse), "old": was}, margins
        )

    assert not against(psnr_db=24.7, agreement=0.85, false_success=0.07)
    assert not against(psnr_db=30.0, agreement=1.0, false_success=0.0)
    assert "PSNR went from 25.00 to 24.60 dB" in against(psnr_db=24.6)[0]
    assert "verdict agreement went from 0.900 to 0.840" in against(agreement=0.84)[0]
    assert "false successes went from 0.050 to 0.080" in against(false_success=0.08)[0]
    assert against(psnr_db=float("nan"))


@slow
def test_somebody_with_a_robot_is_told_what_to_record(settings, tmp_path):
    one, reality = dataclasses.replace(settings, rounds=1), Brought(settings.play)
    asked = improve(one, tmp_path, reality, Replays())
    folder = tmp_path / "round-1" / "play"
    assert f"put 5 episodes into {folder} (there are 0)" in asked
    recorded(folder, range(3))
    assert "(there are 3)" in improve(one, tmp_path, reality, Replays())
    recorded(folder, range(3, 5), steps=4)
    with pytest.raises(ValueError, match=r"0003\.npz has 5 frames .* needs 7 frames"):
        improve(one, tmp_path, reality, Replays())
    recorded(folder, range(3, 5))
    assert improve(one, tmp_path, reality, Replays()) is None
    assert rows(tmp_path)[0]["episodes"] == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"policy": "convergd"}, "did you mean 'converged'"),
        ({"policy": "converged"}, "cannot act in 'tiny'|pixels must"),
        ({"world": "nowhere"}, "no world 'nowhere'"),
        ({"data": ("nowhere",)}, "no episodes"),
        ({"heldout": "nowhere"}, "no episodes"),
        ({"heldout": "DATA"}, "heldout must be a folder that is none of data"),
        ({"train": {"updats": 3}}, "did you mean 'updates'"),
        ({"train": {"world": "x"}}, r"train\.world is set by the rounds"),
        ({"rounds": 0}, "rounds must be at least 1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_recorded(settings, tmp_path, change, says):
    reality = ToyReality()
    change = {key: settings.data[0] if value == "DATA" else value for key, value in change.items()}
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        improve(dataclasses.replace(settings, **change), tmp_path / "out", reality, Replays())
    assert not reality.played
    assert not (tmp_path / "out").exists()


def test_old_recordings_of_another_world_are_refused(settings, tmp_path):
    data = recorded(tmp_path / "data", range(2), side=32)
    with pytest.raises(ValueError, match=r"frames \(h, w\) of \(32, 32\)"):
        improve(dataclasses.replace(settings, data=(str(data),)), tmp_path / "out", ToyReality(), Replays())


def test_a_new_world_frames_pictures_as_the_one_before(tiny_world, tmp_path):
    folder = shutil.copytree(tiny_world, tmp_path / "world")
    said = json.loads((folder / "world.json").read_text())
    said["framing"] = {"source": [40, 48], "picture": [40, 48], "bars": [4, 4, 0, 0]}
    (folder / "world.json").write_text(json.dumps(said))
    before = World.open(folder)
    _check_world(before)
    assemble(_parts(before, folder / "unet"), tmp_path / "new")
    after = World.open(tmp_path / "new").config
    assert after.framing == before.config.framing
    other = dataclasses.replace(after, version=before.config.version, hashes=before.config.hashes)
    assert other == before.config


def test_meta_world_plays_no_seed_that_is_held_out():
    reality = MetaWorld(PlayConfig(first_seed=800_000))
    assert reality.seeds(2) == range(800_120, 800_240)
    world = World.open("Vid2World-DrawerClose-v0")
    with pytest.raises((ValueError, ImportError), match=r"800239 is recorded or measured|Meta-World"):
        reality.check(world, 2, frozenset({800_239}))


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="disturbed is for Meta-World"):
        PlayConfig(reality="folder")
    with pytest.raises(ValueError, match="did you mean 'rounds'"):
        from_dict(ImproveConfig, {"policy": "x", "data": ["x"], "heldout": "x", "round": 3})


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "improve").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_settings_load(path):
    assert load(ImproveConfig, path).finetune.loop.learning_rate <= 2e-4  # more is known to ruin the world


@slow
def test_the_command(settings, tmp_path, capsys):
    (tmp_path / "improve.yaml").write_text(json.dumps(dataclasses.asdict(settings)))
    run = ["improve", "--config", str(tmp_path / "improve.yaml"), "--out", str(tmp_path / "out"), "rounds=1"]
    assert cli.main(run) == 1
    assert "let the policy random play in reality" in capsys.readouterr().out
    recorded(tmp_path / "out" / "round-1" / "play", range(5))
    assert cli.main(run) == 0
    assert "done" in capsys.readouterr().out


IMAGINE = {
    "updates": 2,
    "slots": 2,
    "unroll": 2,
    "longest": 4,
    "moments": 3,
    "heldout": 0.25,
    "clone": {"loop": {"steps": 2, "batch_size": 4, "precision": "fp32"}},
    "judge": {"episodes": 4, "steps": 2, "batch_size": 4},
    "look": {"every": 1, "episodes": 2, "steps": 3},
}


@slow
def test_the_policy_of_a_round_plays_in_the_next(settings, tmp_path):
    reality, trained = ToyReality(), dataclasses.replace(settings, rounds=1, train=IMAGINE)
    assert improve(trained, tmp_path, reality, Replays()) is None
    policy = f"latent:{tmp_path / 'round-1' / 'policy' / 'policy.safetensors'}"
    assert reality.played == [(1, "random"), (2, policy)]
    first, last = rows(tmp_path)
    assert first["new_policy"] == last["policy"] == policy
    assert last["taken_over"] is None
    assert last["imagined_success"][1] is None
    more = dataclasses.replace(trained, rounds=2)  # the last play becomes the second round's
    assert improve(more, tmp_path, reality, Replays()) is None
    assert [number for number, _ in reality.played] == [1, 2, 3]
    assert rows(tmp_path)[1]["taken_over"]


@slow
@pytest.mark.reality
def test_a_tiny_round_in_meta_world(tmp_path):
    pytest.importorskip("metaworld")
    from v2w_gym.data.record import RecordConfig, record
    from v2w_gym.training.improving.realities import open_reality

    for name, seed in (("data", 100), ("heldout", 200)):
        record(RecordConfig(str(tmp_path / name), 3, first_seed=seed))
    config = from_dict(
        ImproveConfig,
        {
            "policy": "converged",
            "data": [str(tmp_path / "data")],
            "heldout": str(tmp_path / "heldout"),
            "rounds": 1,
            "play": {"episodes": 2, "disturbed": 1},
            "finetune": {"weight": 1, "loop": {**SMALL_LOOP, "steps": 1}},
        },
    )
    taken = dataclasses.replace(config.play, first_seed=200)
    with pytest.raises(ValueError, match="recorded or measured"):
        improve(config, tmp_path / "no", open_reality(taken), Replays())
    assert improve(config, tmp_path / "out", open_reality(config.play), Replays()) is None
    (row,) = rows(tmp_path / "out")
    assert row["real_success"] == 1.0
    behaviours = [e.behaviour for e in EpisodeFolder(tmp_path / "out" / "round-1" / "play")]
    assert behaviours == ["policy:round-1"] * 2 + [f"policy:round-1{DISTURBED}"]
