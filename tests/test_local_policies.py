"""Functions, torch modules and recordings as policies, and the texts that name them."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch

from v2w_gym import policies
from v2w_gym.data.episode import Episode
from v2w_gym.policies import registry
from v2w_gym.policies.module_files import open_program
from v2w_gym.policies.modules import Preparation
from v2w_gym.policies.recorded import RecordedPolicy
from v2w_gym.policies.recordings import Recording, read_recordings, recordings_of
from v2w_gym.policies.specs import parse_spec, split_spec

A = 4


def frames(b, side=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (b, side, side, 3), dtype=np.uint8)


def network():
    torch.manual_seed(0)
    pooled = torch.nn.AdaptiveAvgPool2d(4)
    return torch.nn.Sequential(pooled, torch.nn.Flatten(), torch.nn.Linear(48, A), torch.nn.Tanh())


# functions


def brightness(observation):
    return observation["pixels"].mean(axis=(-3, -2, -1))[..., None].repeat(A, -1) / 255.0


def test_a_function_of_one_slot_equals_one_of_all():
    observation = {"pixels": frames(3)}
    single = policies.from_callable(brightness, batched=False)
    together = policies.from_callable(brightness, batched=True)
    assert isinstance(single, policies.Policy)
    np.testing.assert_allclose(single.act(observation), together.act(observation), rtol=1e-6)
    assert single.act(observation).dtype == np.float32


def test_a_function_is_told_the_instruction_of_its_slot():
    def follow(observation, instruction):
        return [len(instruction)] * A

    policy = policies.from_callable(follow, batched=False, instructed=True)
    policy.reset(["go", "stop"], [0, 1])
    policy.reset(["again"], [0])
    assert policy.act({"pixels": frames(2)})[:, 0].tolist() == [5, 4]
    told = []
    batched = policies.from_callable(
        lambda observation, texts: told.append(texts) or torch.zeros(2, A), batched=True, instructed=True
    )
    batched.reset(["go", "stop"], [0, 1])
    batched.act({"pixels": frames(2)})
    assert told == [["go", "stop"]]


@pytest.mark.parametrize(
    ("function", "batched", "hint"),
    [
        (lambda observation: np.zeros(A), True, "batched=False"),
        (lambda observation: np.zeros((1, A)), False, "batched=True"),
        (lambda observation: "ahead", True, "numbers"),
    ],
)
def test_a_function_that_returns_something_else_is_refused(function, batched, hint):
    with pytest.raises(ValueError, match=hint):
        policies.from_callable(function, batched=batched).act({"pixels": frames(2)})


# modules


def test_a_module_sees_floats_from_0_to_1_channels_first():
    seen = []

    class Looks(torch.nn.Module):
        def forward(self, images):
            seen.append(images)
            assert not self.training
            return images.mean(dim=(2, 3))

    shown = frames(2)
    actions = policies.from_module(Looks()).act({"pixels": shown})
    np.testing.assert_allclose(seen[0].permute(0, 2, 3, 1).numpy(), shown / 255.0, rtol=1e-6)
    np.testing.assert_allclose(actions, shown.mean(axis=(1, 2)) / 255.0, rtol=1e-5)


def test_size_mean_and_std_are_those_asked_for():
    shown = frames(2)
    images = Preparation(size=(24, 32), mean=0.5, std=0.5).images(shown)
    assert images.shape == (2, 3, 24, 32)
    assert -1.0 <= images.min() < -0.1 < 0.1 < images.max() <= 1.0
    plain = Preparation().images(shown)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    wanted = (plain - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    np.testing.assert_allclose(Preparation(mean=mean, std=std).images(shown), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": (1, 2, 3)}, {"std": 0.0}, {"mean": (1.0, 2.0)}])
def test_a_preparation_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Preparation(**wrong)


@pytest.mark.parametrize("returned", [torch.zeros(1, A), torch.zeros(2, 3, A), "ahead"])
def test_a_module_that_returns_something_else_is_refused(returned):
    with pytest.raises(ValueError, match=r"tensor \(b, a\) with b = 2"):
        policies.from_module(lambda images: returned).act({"pixels": frames(2)})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_acts_as_the_module_itself(tmp_path):
    torch.jit.save(torch.jit.script(network().eval()), tmp_path / "policy.pt")
    policy, observation = policies.resolve(f"torch:{tmp_path}/policy.pt,mean=0.5"), {"pixels": frames(3)}
    wanted = policies.from_module(network(), mean=0.5).act(observation)
    np.testing.assert_allclose(policy.act(observation), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [None, 2])
def test_an_exported_module_acts_as_the_module_itself(tmp_path, fixed):
    shapes = ({0: torch.export.Dim.AUTO},) if fixed is None else None
    exported = torch.export.export(network().eval(), (torch.zeros(2, 3, 64, 64),), dynamic_shapes=shapes)
    torch.export.save(exported, tmp_path / "policy.pt2")
    policy = policies.resolve(f"torch:{tmp_path}/policy.pt2")
    assert open_program(tmp_path / "policy.pt2").batch == fixed
    for b in (1, 2, 5):
        observation = {"pixels": frames(b)}
        wanted = policies.from_module(network()).act(observation)
        np.testing.assert_allclose(policy.act(observation), wanted, rtol=1e-5, atol=1e-6)


class Bomb:
    """Unpickling it fails the test."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def disguised(path, entries):
    """An archive laid out like an exported program, with the given entries."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"models/model.json": b"{}", "archive_format": b"pt2", **entries}.items():
            archive.writestr(f"policy/{name}", content)


def payload(name, use_pickle):
    return json.dumps({"config": {"x": {"path_name": name, "use_pickle": use_pickle}}}).encode()


def test_pickles_are_refused_with_the_line_that_makes_a_safe_file(tmp_path):
    torch.save(Bomb(), tmp_path / "zip.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Bomb()))
    inside = io.BytesIO()
    torch.save(Bomb(), inside)
    disguised(tmp_path / "inputs.pt2", {"data/sample_inputs/model.pt": inside.getvalue()})
    disguised(tmp_path / "weights.pt2", {"data/weights/m_weights_config.json": payload("weight_0", True)})
    disguised(
        tmp_path / "opaque.pt2", {"data/constants/m_constants_config.json": payload("opaque_obj_0", False)}
    )
    disguised(tmp_path / "native.pt2", {"data/aotinductor/model/wrapper.so": b"machine code"})
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=r"(pickle|machine code).*torch\.export\.save\(") as refusal:
            policies.resolve(f"torch:{file}")
        assert str(file) in str(refusal.value)


def test_a_module_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"torch:.*nothing\.pt2.*no file"):
        policies.resolve(f"torch:{tmp_path}/nothing.pt2")


# recordings


def episode(seed, steps=5):
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, A)).astype(np.float32)
    return Episode(frames(steps + 1, 16, seed), actions, np.zeros(steps + 1, bool), "task", "test", seed)


@pytest.fixture
def folder(tmp_path):
    for seed in (3, 4, 5):
        episode(seed).save(tmp_path / f"{seed}.npz")
    return tmp_path


def replayed(policy, steps, first):
    """Actions ``(f, b, a)``; the first frames are ``first``, the others do not matter."""
    shown = [first] + [np.zeros_like(first)] * (steps - 1)
    return np.stack([policy.act({"pixels": pixels}) for pixels in shown])


def test_a_slot_does_what_was_done_from_its_start(folder):
    policy = policies.resolve(f"replay:{folder}")
    policy.reset([""] * 2, [0, 1])
    first = np.stack([episode(5).frames[0], episode(3).frames[0]])
    actions = replayed(policy, 3, first)
    np.testing.assert_array_equal(actions[:, 0], episode(5).actions[:3])
    np.testing.assert_array_equal(actions[:, 1], episode(3).actions[:3])
    policy.reset([""], [1])  # slot 1 begins anew from another start, slot 0 goes on
    mixed = policy.act({"pixels": np.stack([first[0] * 0, episode(4).frames[0]])})
    np.testing.assert_array_equal(mixed, [episode(5).actions[3], episode(4).actions[0]])


def test_a_slot_does_what_was_done_with_its_seed(folder):
    policy = policies.resolve(f"replay:{folder},by=seed")
    policy.seed([4, 3])
    policy.reset([""] * 2, [0, 1])
    actions = policy.act({"pixels": frames(2, 16)})
    np.testing.assert_array_equal(actions, [episode(4).actions[0], episode(3).actions[0]])


def test_episodes_in_order(folder):
    policy = policies.resolve(f"replay:{folder},by=order,short=hold")
    policy.reset([""] * 2, [0, 1])
    actions = replayed(policy, 7, frames(2, 16))
    np.testing.assert_array_equal(actions[4:, 0], episode(3).actions[[4, 4, 4]])
    policy.reset([""], [0])
    np.testing.assert_array_equal(policy.act({"pixels": frames(2, 16)})[0], episode(5).actions[0])
    with pytest.raises(ValueError, match="there are 3 recordings, and episode 4"):
        policy.reset([""], [1])


def test_what_was_not_recorded_is_refused(folder):
    for spec, what in (("", "begins with the frame"), (",by=seed", "has the seed 9")):
        policy = policies.resolve(f"replay:{folder}{spec}")
        policy.seed([9])
        policy.reset([""], [0])
        with pytest.raises(ValueError, match=rf"slot 0: none of 3 recordings {what}.*by=order"):
            policy.act({"pixels": frames(1, 16, seed=99)})


def test_a_recording_that_is_too_short_says_so_and_nothing_moves(folder):
    policy = policies.resolve(f"replay:{folder},by=order")
    replayed(policy, 5, frames(1, 16))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"3\.npz has 5 actions, step 6.*short=hold"):
            policy.act({"pixels": frames(1, 16)})


def test_recordings_from_files_arrays_and_rows(tmp_path):
    actions = np.random.default_rng(0).uniform(-1, 1, (2, 3, A)).astype(np.float32)
    np.savez(tmp_path / "many.npz", actions=actions)
    np.savez(tmp_path / "one.npz", actions=actions[0])
    episode(7).save(tmp_path / "episode.npz")
    rows = [
        {"action": torch.tensor(actions[i, t]), "episode_index": torch.tensor(i)}
        for i in range(2)
        for t in range(3)
    ]
    for found in (read_recordings(tmp_path / "many.npz"), recordings_of(actions), recordings_of(rows)):
        np.testing.assert_array_equal(np.stack([r.actions for r in found]), actions)
    assert len(read_recordings(tmp_path / "one.npz")) == 1
    assert read_recordings(tmp_path / "episode.npz")[0].seed == 7
    assert RecordedPolicy(recordings_of(actions)).by == "order"
    assert RecordedPolicy(recordings_of([episode(7)])).by == "start"


def test_recordings_that_cannot_be_used_are_refused(tmp_path):
    np.savez(tmp_path / "none.npz", states=np.zeros(3))
    (tmp_path / "junk.npz").write_bytes(b"junk")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "none.npz").read_bytes()[:100])
    np.save(tmp_path / "actions.npy", np.zeros((2, A)))
    silent = Episode(frames(3, 16), None, np.zeros(3, bool), "task", "test", 1)
    cases = [
        (lambda: read_recordings(tmp_path / "none.npz"), r"holds no actions: it has \['states'\]"),
        *(
            (lambda n=n: read_recordings(tmp_path / n), "damaged")
            for n in ("junk.npz", "cut.npz", "actions.npy")
        ),
        (lambda: recordings_of([silent]), "video without actions"),
        (lambda: recordings_of([{"actions": 1}]), r"row 0 lacks \['action', 'episode_index'\]"),
        (lambda: recordings_of([np.full((2, A), np.nan)]), "finite"),
        (lambda: RecordedPolicy([]), "width"),
        (lambda: RecordedPolicy([Recording(np.zeros((2, 3))), Recording(np.zeros((2, A)))]), "width"),
        (lambda: RecordedPolicy([Recording(np.zeros((2, A)))], by="seed"), "by='order'"),
        (lambda: RecordedPolicy([Recording(np.zeros((2, A)))], by="start"), "by='order'"),
        (lambda: RecordedPolicy([Recording(np.zeros((2, A)))], short="loop"), "short"),
    ]
    for call, what in cases:
        with pytest.raises(ValueError, match=what):
            call()


# names


def test_options_follow_after_commas():
    target, values = split_spec("torch:a,b.pt2,size=224,mean=0.5/0.4/0.3,text=none,on=false")
    assert target == "a,b.pt2"
    assert values == {"size": 224, "mean": [0.5, 0.4, 0.3], "text": "none", "on": False}
    assert split_spec("planner") == ("", {})
    assert split_spec("planner:samples=8,sampler=fast") == ("", {"samples": 8, "sampler": "fast"})
    assert parse_spec("torch:x.pt,size=48/64", Preparation)[1].size == (48, 64)


def test_a_misspelt_option_is_answered_with_the_right_one(tmp_path):
    with pytest.raises(ValueError, match=r"policy 'replay:.*unknown key 'shrt'.*did you mean 'short'"):
        policies.resolve(f"replay:{tmp_path},shrt=hold")


def test_the_shipped_replay_and_recordings_keep_apart(tmp_path):
    assert type(policies.resolve("replay")).__name__ == "ReplayPolicy"
    with pytest.raises(ValueError, match=r"policy 'replay:.*no episodes"):
        policies.resolve(f"replay:{tmp_path}")


@pytest.mark.parametrize(("wrong", "near"), [("sb33:x.zip", "sb3"), ("plannr:samples=3", "planner")])
def test_a_misspelt_prefix_is_answered_with_the_right_one(wrong, near):
    with pytest.raises(ValueError, match=f"did you mean {near}"):
        policies.resolve(wrong)


def test_unknown_names_are_told_of_prefixes():
    with pytest.raises(ValueError, match=r"module:attr.*sb3:\.\.\..*replay:\.\.\."):
        policies.resolve("nothing-like-it")


def test_makers_are_where_the_table_says():
    for maker in registry.MAKERS.values():
        module, _, attribute = maker.partition(":")
        assert callable(getattr(__import__(module, fromlist=[attribute]), attribute))
