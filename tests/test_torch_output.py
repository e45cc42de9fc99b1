"""``output="torch"``: the same numbers as tensors on the device; nothing large passes through the host."""

import numpy as np
import pytest
import torch
from gymnasium.vector.utils import concatenate, create_empty_array

import v2w_gym
from v2w_gym.envs.actions import actions_of
from v2w_gym.envs.domains import CSGO_ACTIONS, RECON_ACTIONS

SLOTS = 4
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU"))]


def make(tiny_world, output="torch", **settings):
    return v2w_gym.WorldModelVectorEnv(SLOTS, tiny_world, output=output, **settings)


def draw(steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, SLOTS, 4)).astype(np.float32)


def assert_equals(tensors, arrays, device):
    """Equal values; tensors for the arrays that hold numbers of frames, the rest as it is."""
    if isinstance(arrays, dict):
        assert list(tensors) == list(arrays)
        for key, value in arrays.items():
            assert_equals(tensors[key], value, device)
    elif isinstance(tensors, torch.Tensor):
        assert tensors.device.type == device
        assert not tensors.requires_grad
        expected = np.asarray(arrays)
        known = {"u": torch.uint8, "b": torch.bool, "f": torch.float32}
        assert tensors.dtype == known[expected.dtype.kind]
        np.testing.assert_array_equal(tensors.cpu().numpy(), expected)
    elif isinstance(arrays, np.ndarray) and arrays.dtype == object:
        for mine, other in zip(tensors, arrays, strict=True):
            assert_equals(mine, other, device)
    else:
        assert type(tensors) is type(arrays)
        np.testing.assert_array_equal(tensors, arrays)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("same_step", {"reward": "dense"}),
        ("same_step", {"obs_type": "pixels"}),
        ("next_step", {}),
        ("disabled", {}),
    ],
)
def test_it_equals_numpy_output(tiny_world, device, mode, settings):
    settings |= {"autoreset_mode": mode, "device": device}
    ours, theirs = make(tiny_world, **settings), make(tiny_world, "numpy", **settings)
    for mine, other in zip(ours.reset(seed=5), theirs.reset(seed=5), strict=True):
        assert_equals(mine, other, device)
    endings = 0
    for i, row in enumerate(draw(7)):
        action = torch.from_numpy(row).to(device, torch.float64 if i % 2 else torch.float32)
        mine, other = ours.step(action), theirs.step(row)
        for a, b in zip(mine, other, strict=True):
            assert_equals(a, b, device)
        for tensor in (mine[1], mine[2], mine[3], mine[4]["success_prob"], mine[4]["is_success"]):
            assert isinstance(tensor, torch.Tensor)
        over = mine[2] | mine[3]
        endings += int(over.sum())
        if mode == "disabled" and over.any():
            resets = (
                ours.reset(options={"reset_mask": over}),
                theirs.reset(options={"reset_mask": other[2] | other[3]}),
            )
            for a, b in zip(*resets, strict=True):
                assert_equals(a, b, device)
    assert endings >= SLOTS
    chunk = draw(3, seed=1).swapaxes(0, 1)
    for a, b in zip(
        ours.step_chunk(torch.from_numpy(chunk).to(device)), theirs.step_chunk(chunk), strict=True
    ):
        assert_equals(a, b, device)
    assert all(isinstance(frame, np.ndarray) for frame in make_rendered(tiny_world, device))


def make_rendered(tiny_world, device):
    envs = make(tiny_world, device=device, render_mode="rgb_array")
    envs.reset(seed=0)
    return envs.render()


def test_results_share_nothing_with_the_environment(tiny_world):
    envs = make(tiny_world, reward="dense", terminate_on_success=False)
    first, infos = envs.reset(seed=0)
    results = [first, infos, *(value for row in draw(3) for value in envs.step(torch.from_numpy(row)))]
    tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]
    kept = [leaf.clone() for leaf in tensors]
    addresses = [leaf.untyped_storage().data_ptr() for leaf in tensors]
    assert len(set(addresses)) == len(addresses)
    for row in draw(3, seed=1):
        envs.step(torch.from_numpy(row))
    assert all(torch.equal(a, b) for a, b in zip(tensors, kept, strict=True))


class Traffic:
    """Notes how many values each trip between tensors and Python takes."""

    def __init__(self, monkeypatch):
        self.trips = []
        for name in ("cpu", "numpy", "tolist", "item", "__bool__", "__array__", "__int__", "__float__"):
            self._watch(monkeypatch, torch.Tensor, name)
        for name in ("from_numpy", "as_tensor"):
            self._watch(monkeypatch, torch, name)

    def _watch(self, monkeypatch, owner, name):
        original = getattr(owner, name)

        def watched(value, *args, **kwargs):
            if owner is torch.Tensor or not isinstance(value, torch.Tensor):
                self.trips.append((name, int(np.prod(np.shape(value)))))
            return original(value, *args, **kwargs)

        monkeypatch.setattr(owner, name, watched)


def test_nothing_large_passes_through_the_host(tiny_world, monkeypatch):
    envs = make(tiny_world, terminate_on_success=False, horizon=50)
    envs.reset(seed=0)
    actions = [torch.from_numpy(row) for row in draw(2)]
    chunk = torch.from_numpy(draw(3).swapaxes(0, 1).copy())
    envs.step(actions[0])
    traffic = Traffic(monkeypatch)
    envs.step(actions[1])
    step = list(traffic.trips)
    envs.step_chunk(chunk)
    monkeypatch.undo()
    assert max(size for _, size in traffic.trips) <= SLOTS + 1
    assert [size for name, size in step if name == "cpu"] == [
        SLOTS + 1
    ]  # successes, and whether actions hold
    assert not [name for name, _ in step if name in ("item", "tolist", "__bool__", "__array__")]
    assert sum(name == "cpu" for name, _ in traffic.trips[len(step) :]) == 4  # the check, and three steps


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5])
@pytest.mark.parametrize("device", DEVICES)
def test_a_bad_tensor_is_refused_and_changes_nothing(tiny_world, bad, device):
    def make_aged():
        envs = make(
            tiny_world, device=device, autoreset_mode="next_step", horizon=2, terminate_on_success=False
        )
        envs.reset(seed=0)
        envs.step(torch.from_numpy(draw(1)[0]).to(device))
        return envs

    envs, untouched = make_aged(), make_aged()
    good = torch.from_numpy(draw(1, seed=1)[0]).to(device)
    spoilt = good.clone()
    spoilt[2, 3] = bad
    for _ in range(2):  # with running episodes, and with nothing but episodes that wait for their reset
        with pytest.raises(ValueError, match=r"finite|'gripper' must lie in \[-1, 1\]"):
            envs.step(spoilt)
        with pytest.raises(ValueError, match=r"finite|'gripper' must lie in \[-1, 1\]"):
            envs.step_chunk(torch.stack([good, spoilt], dim=1))
        with pytest.raises(ValueError, match=r"shape \(4, 4\), got \(4, 3\)"):
            envs.step(good[:, :3])
        mine, other = envs.step(good), untouched.step(good)
        assert torch.equal(mine[0]["pixels"], other[0]["pixels"])
        assert torch.equal(mine[3], other[3])


def test_arrays_may_be_given_all_the_same(tiny_world):
    ours, theirs = make(tiny_world), make(tiny_world)
    ours.reset(seed=0), theirs.reset(seed=0)
    for row in draw(3):
        mine, other = ours.step(row), theirs.step(torch.from_numpy(row))
        assert torch.equal(mine[0]["pixels"], other[0]["pixels"])
    with pytest.raises(ValueError, match="must lie in"):
        ours.step(2 * np.ones((SLOTS, 4)))


def test_snapshots_go_from_one_output_to_the_other(tiny_world, tmp_path):
    settings = {"terminate_on_success": False}
    tensors, arrays = make(tiny_world, **settings), make(tiny_world, "numpy", **settings)
    past, future = draw(2), draw(2, seed=1)
    for envs in (tensors, arrays):
        envs.reset(seed=3)
        envs.step(past[0])
    kept = tensors.snapshot()
    assert isinstance(kept.episodes.frames, torch.Tensor)
    kept.save(tmp_path / "episodes.safetensors")
    expected = [arrays.step(row) for row in (past[1], *future)]
    for source in (
        kept,
        v2w_gym.Snapshot.load(tmp_path / "episodes.safetensors"),
        arrays_snapshot(tiny_world, past),
    ):
        for envs in (tensors, make(tiny_world, "numpy", **settings), make(tiny_world, **settings)):
            envs.restore(source)
            for row, other in zip((past[1], *future), expected, strict=True):
                mine = envs.step(row)
                np.testing.assert_array_equal(np.asarray(mine[0]["pixels"]), other[0]["pixels"])
                np.testing.assert_array_equal(np.asarray(mine[4]["success_prob"]), other[4]["success_prob"])
    branch = tensors.fork(1, 2)
    observation, rewards, *_ = branch.step(torch.zeros(2, 4))
    assert isinstance(rewards, torch.Tensor)
    one, other = observation["pixels"].short()
    torch.testing.assert_close(one, other, rtol=0, atol=1)  # rows of a batch may be rounded differently


def arrays_snapshot(tiny_world, past):
    envs = make(tiny_world, "numpy", terminate_on_success=False)
    envs.reset(seed=3)
    envs.step(past[0])
    return envs.snapshot()


def test_the_single_env_observes_tensors(tiny_world):
    with (
        v2w_gym.WorldModelEnv(tiny_world, output="torch", reward="dense") as ours,
        v2w_gym.WorldModelEnv(tiny_world, reward="dense") as theirs,
    ):
        assert_equals(ours.reset(seed=1)[0], theirs.reset(seed=1)[0], "cpu")
        row = draw(1)[0, 0]
        mine, other = ours.step(torch.from_numpy(row)), theirs.step(row)
        assert_equals(mine[0], other[0], "cpu")
        assert mine[1:] == other[1:]
        assert [type(value) for value in mine[1:4]] == [float, bool, bool]
        with pytest.raises(ValueError, match="must lie in"):
            ours.step(torch.full((4,), 3.0))
        chunk = draw(2, seed=1)[:, 0]
        for a, b in zip(ours.step_chunk(torch.from_numpy(chunk)), theirs.step_chunk(chunk), strict=True):
            assert_equals(a, b, "cpu")


class Plain:
    """A detector that knows arrays alone and remembers what it was given."""

    threshold, hash = 0.5, "plain"

    def __init__(self):
        self.given = []

    def reset(self, instruction, slots):
        """Nothing to forget."""

    def score(self, frames, slots=None):
        self.given.append(type(frames))
        return frames.mean(axis=(1, 2, 3), dtype=np.float64) / 255


@pytest.mark.parametrize("device", DEVICES)
def test_a_detector_that_knows_arrays_alone(tiny_world, device):
    detector = Plain()
    envs = make(tiny_world, detector=detector, device=device, reward="dense", terminate_on_success=False)
    envs.reset(seed=0)
    observation, rewards, *_ = envs.step(torch.zeros(SLOTS, 4, device=device))
    assert detector.given == [np.ndarray] * 2
    expected = observation["pixels"].double().mean(dim=(1, 2, 3)) / 255
    torch.testing.assert_close(rewards, expected.float())
    assert rewards.device.type == device


@pytest.mark.parametrize("device", DEVICES)
def test_the_shipped_detector_judges_tensors_where_they_are(tiny_world, device):
    detector = v2w_gym.World.open(tiny_world).detector(device)
    frames = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    scores = detector.score(torch.from_numpy(frames).to(device))
    assert (scores.device.type, scores.dtype) == (device, torch.float32)
    on_host = detector.score(frames)
    assert isinstance(on_host, np.ndarray)
    np.testing.assert_allclose(scores.cpu().numpy(), on_host, atol=1e-6)


@pytest.mark.parametrize("spec", [CSGO_ACTIONS, RECON_ACTIONS], ids=["keyboard", "metric"])
def test_every_kind_of_action_is_encoded_on_the_device(spec):
    kind = actions_of(spec)
    kind.space.seed(0)
    rows = [kind.space.sample() for _ in range(3)]
    batch = concatenate(kind.space, rows, create_empty_array(kind.space, 3))
    tensors = (
        {name: torch.from_numpy(values) for name, values in batch.items()}
        if isinstance(batch, dict)
        else torch.from_numpy(batch)
    )
    vectors, valid = kind.encode_there(tensors, (3,))
    assert bool(valid)
    np.testing.assert_allclose(vectors.numpy(), kind.encode(batch, (3,)), atol=1e-6)
    recorded = torch.from_numpy(kind.encode(batch, (3,)))
    if isinstance(batch, dict):
        again, valid = kind.encode_there(recorded, (3,))
        assert bool(valid)
        assert torch.equal(again, recorded)
        for name, wrong in (("mouse_x", 23), ("keys", 2), ("mouse_y", -1)):
            spoilt = {**tensors, name: tensors[name].clone().fill_(wrong)}
            assert not kind.encode_there(spoilt, (3,))[1]
        assert not kind.encode_there(recorded / 2, (3,))[1]
        with pytest.raises(ValueError, match="must have the fields"):
            kind.encode_there({"keys": tensors["keys"]}, (3,))
    else:
        assert not kind.encode_there(tensors * 100, (3,))[1]
