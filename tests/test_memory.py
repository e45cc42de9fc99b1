"""A batch too large for memory runs in parts and gives the same; what cannot fit is refused beforehand."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import v2w_gym
from v2w_gym.world_model import memory
from v2w_gym.world_model.footprint import LiveBytes, Need, measure
from v2w_gym.world_model.parts import OVERHEAD, USABLE, Chunks, in_parts, rows_at_once
from v2w_gym.world_model.room import state_bytes
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.vid2world import Vid2World

CPU = torch.device("cpu")
MIB = 2**20
SIZE = (48, 48)


@pytest.fixture
def free(monkeypatch):
    """Sets how many bytes are free."""
    return lambda count: monkeypatch.setattr(memory, "free_bytes", lambda device: int(count))


@pytest.fixture
def model(tiny_model) -> Vid2World:
    return tiny_model()


def begin(model: Vid2World, slots: int, frames: int = 1):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (slots, frames, *SIZE, 3), dtype=np.uint8)
    return model.init(images, rng.uniform(-1, 1, (slots, frames - 1, 4)), list(range(slots)))


def actions(slots: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (slots, 4)).astype(np.float32)


def leaves(state) -> dict[str, torch.Tensor]:
    return dict(state.to_tensordict().flatten_keys("|").items())


def enough_for(model: Vid2World, state, at_once: int) -> float:
    """Free bytes with which a step of ``state`` takes that many slots at once through the network."""
    size, need = model.dynamics.room.need(state)
    return (len(state.seed) * size + OVERHEAD["cpu"] * need.of(at_once) + 1) / USABLE


# ------------------------------------------------------------------------------------------- what is measured


def test_the_peak_is_that_of_the_tensors_alive_together():
    with LiveBytes() as live:
        a = torch.zeros(MIB // 4)  # 1 MiB
        b = a.view(2, -1) + 1.0  # 2 MiB; the view shares
        del a
        c = torch.cat([b, b])  # 1 + 2 MiB
        del b, c
        torch.zeros(MIB // 8).add_(1.0)
    assert max(rows for _, rows in live.course) == 3 * MIB
    assert live.course[-1] == (0, MIB // 2)


def test_what_is_made_of_weights_alone_does_not_grow_with_the_batch():
    weight = torch.randn(512, 512)

    def work(rows: int) -> torch.Tensor:
        return torch.ones(rows, 512) @ weight.to(torch.float64).float()

    need = measure(lambda: work(1), [weight])
    with LiveBytes() as live:
        work(40)
    assert need.of(40) == max(sum(moment) for moment in live.course)
    assert need.per_row == 2 * 512 * 4


def test_one_slot_tells_what_a_batch_needs(model):
    """By the bytes of all tensors of a batch of 7, and far within the margin that is kept."""
    state = begin(model, 7)
    _, need = model.dynamics.room.need(state)
    given, action = state.clone(), torch.from_numpy(actions(7))
    with torch.no_grad(), LiveBytes() as live:
        model.dynamics.history.imagine(given, action)
    assert need.of(7) == pytest.approx(max(sum(moment) for moment in live.course), rel=0.03)


def test_rows_that_fit_are_the_most_that_fit():
    need = Need(((100, 5), (0, 20)))
    for free_bytes in (19, 105, 120, 141, 400, 10_000):
        rows = need.rows(free_bytes)
        assert need.of(rows + 1) > free_bytes
        assert rows == 0 or need.of(rows) <= free_bytes


def test_parts_are_of_equal_size():
    need = Need(((0, 10),))
    assert rows_at_once(need, 10, OVERHEAD["cpu"] * 90, CPU) == 5
    assert rows_at_once(need, 10, OVERHEAD["cpu"] * 100, CPU) == 10
    assert rows_at_once(need, 10, OVERHEAD["cpu"] * 9, CPU) == 0


def test_bytes_per_slot(model):
    facts = model.memory_per_slot()
    assert facts.state_bytes == state_bytes(begin(model, 3)) / 3
    assert facts.step_bytes > 0
    assert facts.decode_bytes >= 2 * 4 * 3 * SIZE[0] * SIZE[1]  # one image as float, and what it is made of
    assert model.memory_per_slot() == facts


def test_a_pass_over_a_window_needs_more_the_longer_the_history(tiny_model):
    plain = tiny_model()
    whole = Vid2World(plain.codec, plain.unet, SIZE, sampler=SamplerConfig(steps=2, history="recompute"))
    room, state, needs = whole.dynamics.room, begin(whole, 2), []
    for _ in range(whole.window + 1):
        needs.append(room.need(state)[1].per_row)
        state = whole.step(state, actions(2))
    assert needs[0] < needs[1] < needs[2] == needs[3] == needs[4] == whole.memory_per_slot().step_bytes
    young = torch.cat([begin(whole, 1), state])
    assert room.need(young)[1].per_row == needs[-1]  # the oldest slot counts


# ------------------------------------------------------------------------------------------------ in parts


@pytest.mark.parametrize("history", ["stream", "recompute"])
def test_a_step_in_parts_gives_the_same_with_one_warning(tiny_model, free, history):
    plain = tiny_model()
    sampler = SamplerConfig(steps=2, history=history, guidance_scale=1.5)
    model = Vid2World(plain.codec, plain.unet, SIZE, sampler=sampler)
    state, action = begin(model, 7, frames=3), actions(7)
    before = leaves(state.clone())
    whole = model.step(state, action)
    free(enough_for(model, state, 3))
    with pytest.warns(UserWarning, match="3 parts, at most 3 slots at once, and gives the same"):
        parts = model.step(state, action)
    for name, value in leaves(parts).items():
        torch.testing.assert_close(value, leaves(whole)[name], rtol=1e-5, atol=1e-5)
    for name, value in leaves(state).items():
        assert torch.equal(value, before[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that batch was told about
        again = model.step(state, action)
    assert all(torch.equal(value, leaves(parts)[name]) for name, value in leaves(again).items())


def test_equal_parts_are_those_batches_bit_for_bit(model, free):
    state, action = begin(model, 6), actions(6)
    apart = torch.cat([model.step(state[i : i + 2], action[i : i + 2]) for i in (0, 2, 4)])
    free(enough_for(model, state, 2))
    with pytest.warns(UserWarning, match="3 parts"):
        together = model.step(state, action)
    assert all(torch.equal(value, leaves(apart)[name]) for name, value in leaves(together).items())


def test_measuring_changes_nothing(tiny_model):
    state, action = begin(tiny_model(), 4), actions(4)
    measured, plain = tiny_model(), tiny_model()
    measured.memory_per_slot()
    plain.dynamics.room.at_once = lambda state, copies=1: len(state.seed)
    results = [model.step(state, action) for model in (measured, plain)]
    assert all(torch.equal(value, leaves(results[1])[name]) for name, value in leaves(results[0]).items())


def test_contexts_of_several_frames_enter_in_parts(model, free):
    whole = begin(model, 6, frames=4)
    _, need = model.dynamics.room.need(whole)
    free((OVERHEAD["cpu"] * need.of(2) + 1) / USABLE)
    model.dynamics.room.admit = lambda *given: None  # there is room for the states
    with pytest.warns(UserWarning, match="3 parts, at most 2"):
        parts = begin(model, 6, frames=4)
    for name, value in leaves(parts).items():
        torch.testing.assert_close(value, leaves(whole)[name], rtol=1e-5, atol=1e-5)


def test_a_card_that_runs_out_halves_the_part_and_begins_it_again(model, monkeypatch):
    """No card here: the network raises what PyTorch raises, after it has written into the state."""
    state, action = begin(model, 6), actions(6)
    whole, sizes, imagine = model.step(state, action), [], model.dynamics.history.imagine

    def tight(part, action):
        sizes.append(len(action))
        made = imagine(part, action)
        if len(action) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made

    monkeypatch.setattr(model.dynamics.history, "imagine", tight)
    with pytest.warns(UserWarning, match="ran out of memory with 6 of them at once: it runs in 3 parts"):
        parts = model.step(state, action)
    assert sizes == [6, 3, 2, 2, 2]
    for name, value in leaves(parts).items():
        torch.testing.assert_close(value, leaves(whole)[name], rtol=1e-5, atol=1e-5)
    sizes.clear()
    model.step(state, action)
    assert sizes == [2, 2, 2]  # the next step knows


def test_not_even_one_row_on_the_card_is_an_error():
    def work(part: slice) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError, match="does not even take one slot"):
        in_parts(5, 5, work)


def test_frames_are_encoded_and_decoded_in_parts(model, free):
    state = begin(model, 7)
    images = np.random.default_rng(0).integers(0, 256, (7, *SIZE, 3), dtype=np.uint8)
    codec, frames = model.codec, torch.from_numpy(images)
    pixels, noise = codec.pixels(frames), torch.randn(7, *state.latent.shape[1:])

    def everything() -> list[torch.Tensor]:
        latent = state.latent
        made = codec.decode_pixels(latent), codec.encode(frames), codec.encode_pixels(pixels, noise)
        return [*made, model.decode(latent).float()]

    whole = everything()
    free(OVERHEAD["cpu"] * 2.5 * codec.decoding(state.latent).per_row / USABLE)
    for parts, all_at_once in zip(everything(), whole, strict=True):
        torch.testing.assert_close(parts, all_at_once, rtol=1e-4, atol=1e-4)


def test_chunks_are_no_larger_than_memory_or_their_bound_allows(free):
    seen, like = [], torch.zeros(10, 1000)

    def work(part: slice) -> torch.Tensor:
        seen.append(part.stop - part.start)
        return like[part] + 1.0

    chunks = Chunks(most=4)
    assert torch.equal(chunks.apply("add", work, like), like + 1.0)
    assert seen == [1, 4, 4, 2]  # the first measures
    seen.clear()
    free(OVERHEAD["cpu"] * 4000 * 3.5 / USABLE)
    chunks.apply("add", work, like)
    assert seen == [3, 3, 3, 1]  # four parts, as equal as can be
    seen.clear()
    free(1)
    chunks.apply("add", work, like)
    assert seen == [1] * 10  # less than one does not go


# ------------------------------------------------------------------------------------------ what is refused


def test_more_slots_than_fit_are_refused_with_the_number_that_fits(model, free):
    facts = model.memory_per_slot()
    image = 2 * 4 * 3 * SIZE[0] * SIZE[1]
    free(4.5 * (2 * facts.state_bytes + image) / USABLE)
    with pytest.raises(MemoryError, match=r"8 slots do not fit, 4 would; num_envs=4$"):
        begin(model, 8)
    state = begin(model, 4)
    assert torch.isfinite(state.latent).all()


def test_a_batch_that_was_let_in_can_begin_anew_beside_itself(model, free):
    """The old episodes are still there while new ones begin, and make way for a step's copy."""
    facts = model.memory_per_slot()
    image = 2 * 4 * 3 * SIZE[0] * SIZE[1]
    free(4.5 * (2 * facts.state_bytes + image) / USABLE)
    begin(model, 4)
    free(4.5 * (facts.state_bytes + image) / USABLE)
    begin(model, 4)
    with pytest.raises(MemoryError, match="5 slots do not fit"):
        begin(model, 5)


def test_a_step_without_room_for_the_new_state_is_refused_and_changes_nothing(model, free):
    state, action = begin(model, 4), actions(4)
    before, free_now = leaves(state.clone()), 4 * model.memory_per_slot().state_bytes
    whole = model.step(state, action)
    free(free_now)
    with pytest.raises(
        MemoryError, match=r"a step of 4 slots copies their state.*step fewer slots, num_envs=1"
    ):
        model.step(state, action)
    assert all(torch.equal(value, before[name]) for name, value in leaves(state).items())
    free(1 << 40)
    assert torch.equal(model.step(state, action).latent, whole.latent)


def test_one_slot_is_never_measured_or_refused(model, free):
    state = begin(model, 1)
    free(0)
    assert torch.isfinite(model.step(begin(model, 1), actions(1)).latent).all()
    assert model.decode(state.latent).shape == (1, *SIZE, 3)


# --------------------------------------------------------------------------------------------- what is free


def machine(folder: Path, monkeypatch, groups: dict[str, str], files: dict[str, str]) -> int:
    """Free bytes on a Linux machine with these control groups and files."""
    proc, cgroups = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(
        "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    5000 kB\nHugePages_Total: 0\n"
    )
    (proc / "self" / "cgroup").write_text(
        "\n".join(f"{i}:{c}:{p}" for i, (c, p) in enumerate(groups.items()))
    )
    for name, text in files.items():
        path = cgroups / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(memory, "PROC", proc)
    monkeypatch.setattr(memory, "CGROUPS", cgroups)
    return memory.free_bytes(CPU)


V2 = {
    "memory.max": "3000000\n",
    "memory.current": "2500000\n",
    "memory.stat": "anon 5\ninactive_file 300000\nactive_file 100000\n",
}
STAT_V1 = "inactive_file 1\ntotal_inactive_file 20000\ntotal_active_file 5000\n"
V1 = {"memory.limit_in_bytes": "100000", "memory.usage_in_bytes": "60000", "memory.stat": STAT_V1}


def at(folder: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ({}, {}, 5000 * 1024),
        ({"": "/"}, V2, 900_000),
        ({"": "/a/b"}, at("a", V2) | at("a/b", V2 | {"memory.max": "max\n"}), 900_000),
        ({"": "/outside/of/here"}, V2, 900_000),
        ({"cpu": "/x", "memory": "/job"}, at("memory/job", V1), 65_000),
        (
            {"memory": "/job"},
            at("memory/job", V1 | {"memory.limit_in_bytes": str(2**63 - 4096)}),
            5000 * 1024,
        ),
        ({"": "/"}, V2 | {"memory.max": "1"}, 0),
        ({"": "/"}, V2 | {"memory.max": "all"}, memory.UNKNOWN),
    ],
    ids=[
        "no group",
        "version 2",
        "limit above",
        "inside a container",
        "version 1",
        "unlimited",
        "used up",
        "odd",
    ],
)
def test_free_memory_is_what_system_and_container_leave(tmp_path, monkeypatch, groups, files, expected):
    assert machine(tmp_path, monkeypatch, groups, files) == expected


def test_this_machine_says_how_much_is_free():
    assert MIB < memory.free_bytes(CPU) < 2**50


def test_a_vector_environment_says_what_a_slot_takes(tiny_world):
    world = v2w_gym.World.open(tiny_world)
    envs = v2w_gym.WorldModelVectorEnv(2, world)
    assert envs.memory_per_slot() == world.model().memory_per_slot()

    class Foreign:
        frame_size, action_dim, window, device = SIZE, 4, 4, CPU

    envs = v2w_gym.WorldModelVectorEnv(2, world, model=Foreign())
    with pytest.raises(TypeError, match="a Foreign does not say what memory it takes"):
        envs.memory_per_slot()
