"""Files that somebody damaged, or made up: read whole, or refused with one clear line."""

import io
import json
import shutil
import struct
import tempfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from v2w_gym.data.archive import read_array, read_arrays
from v2w_gym.data.episode import Episode, EpisodeFolder
from v2w_gym.data.frames import load_actions, load_frames
from v2w_gym.data.framing import Framing
from v2w_gym.data.outside import read_context, starts_from
from v2w_gym.data.starts import Context, StartContexts
from v2w_gym.envs.world import World

FEW, MANY = 20, 2_000  # of each of five kinds of file
QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
FRAMING = Framing((12, 16), (6, 8), (1, 1, 0, 0))
FACTS = ((8, 8), 2, FRAMING)


def lottery(count):
    return settings(max_examples=count, deadline=None, suppress_health_check=QUIET)


def npz(arrays, pack=zipfile.ZIP_DEFLATED):
    """An ``.npz`` of arrays, or of the bytes of what should be one."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", pack) as archive:
        for name, content in arrays.items():
            if not isinstance(content, bytes):
                member = io.BytesIO()
                np.lib.format.write_array(member, np.asanyarray(content), allow_pickle=True)
                content = member.getvalue()
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


EPISODE = {
    "frames": np.zeros((3, 8, 8, 3), np.uint8),
    "actions": np.zeros((2, 2), np.float32),
    "success": np.zeros(3, bool),
    "task": np.array("close"),
    "behaviour": np.array("still"),
    "seed": np.array(7),
    "states": np.zeros((3, 4), np.float32),
}
STARTS = {"frames": np.zeros((2, 3, 8, 8, 3), np.uint8), "actions": np.zeros((2, 2, 2), np.float32)}
CLIP = {"image": np.zeros((3, 12, 16, 3), np.uint8), "action": np.zeros((3, 2))}
INDEX = {"ids": ["a", "b"], "seeds": [1, None]}

dtypes = st.one_of(hnp.scalar_dtypes(), hnp.unicode_string_dtypes(max_len=3))
shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)
arrays = hnp.arrays(dtypes, shapes) | st.just(np.array([{}], dtype=object))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def headers(draw):
    """An ``.npy`` whose header says something else than its bytes hold."""
    shape = draw(
        st.sampled_from(["()", "(3,)", "(-1,)", "(10**9,)", "(99999999999, 99999999)", "3", "(0, 2", "x"])
    )
    kind = draw(
        st.sampled_from(["'|u1'", "'<f4'", "'|O'", "'<U3'", "'|V9'", "'<U0'", "3", "[('a','<f4')]", "'("])
    )
    order = draw(st.sampled_from(["False", "True", "None", "print()"]))
    text = draw(
        st.just(f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}") | st.text(max_size=20)
    ).encode("latin1", "replace")
    version = draw(st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\7\7"]))
    length = struct.pack(
        "<H" if version == b"\1\0" else "<I", draw(st.just(len(text)) | st.integers(0, 65535))
    )
    return b"\x93NUMPY" + version + length + text + draw(st.binary(max_size=30))


@st.composite
def archives(draw, whole):
    """An ``.npz`` near to ``whole``: arrays of other kinds, taken out or made up, then bytes changed."""
    content = dict(whole)
    for name in draw(st.lists(st.sampled_from(sorted(whole)), max_size=2)):
        content[name] = draw(arrays | headers() | st.binary(max_size=30))
    for name in draw(st.lists(st.sampled_from(sorted(whole)), max_size=1)):
        del content[name]
    data = npz(content, draw(st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA])))
    return draw(spoilt(data)) if draw(st.booleans()) else data


@st.composite
def spoilt(draw, data):
    """``data`` with bytes changed, cut out or put in."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        changed[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(changed)


@st.composite
def texts(draw, whole):
    """A JSON file near to ``whole``: values replaced, keys taken out or made up, then letters changed."""
    content = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(0, 2))):
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.booleans()):
                place[key] = draw(json_values)
            else:
                del place[key]
            break
    if draw(st.integers(0, 9)) == 0:
        content = draw(json_values)
    data = json.dumps(content).encode()
    return draw(spoilt(data)) if draw(st.integers(0, 3)) == 0 else data


def read_or_refused(read):
    """What ``read`` gives, or None where it refuses; whatever else happens is a fault."""
    refusal = None
    try:
        return read()
    except (ValueError, FileNotFoundError) as error:
        refusal = str(error)
    assert 10 < len(refusal) < 1500
    return None


def try_episode(folder, data):
    (folder / "0.npz").write_bytes(data)
    episode = read_or_refused(lambda: Episode.load(folder / "0.npz"))
    if episode is not None:
        assert episode.succeeded in (True, False)
        assert isinstance(hash((episode.task, episode.behaviour, episode.seed)), int)
        assert load_frames([folder]).shape == (1, *episode.frames.shape)
    read_or_refused(lambda: load_actions([folder]))


def try_starts(folder, data, index):
    (folder / "starts.npz").write_bytes(data)
    (folder / "starts.json").write_bytes(index)
    starts = read_or_refused(lambda: StartContexts.load(folder))
    if starts is not None:
        assert all(starts.by_id(id).actions.dtype == np.float32 for id in starts.ids)
    read_or_refused(lambda: starts_from(folder, *FACTS))


def try_clip(folder, data, actions):
    (folder / "clip.npz").write_bytes(data)
    read_or_refused(lambda: read_context(folder / "clip.npz", *FACTS))
    cut = folder / "cut"
    cut.mkdir(exist_ok=True)
    cv2.imwrite(str(cut / "0.png"), np.zeros((12, 16, 3), np.uint8))
    (cut / "actions.npy").write_bytes(actions)
    read_or_refused(lambda: starts_from(cut, *FACTS))


def try_picture(folder, name, data):
    (folder / name).write_bytes(data)
    read_or_refused(lambda: read_context(folder / name, *FACTS))
    (folder / name).unlink()


def try_world(folder, data):
    (folder / "world.json").write_bytes(data)
    world = read_or_refused(lambda: World.open(folder))
    if world is not None:
        read_or_refused(world.starts)
        read_or_refused(world.sampler)
        repr(world.config)


def world_values(tiny_world):
    return json.loads((tiny_world / "world.json").read_text()) | {
        "hashes": {},
        "samplers": {"fast": {"steps": 1}},
    }


def npy(array):
    member = io.BytesIO()
    np.save(member, array)
    return member.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_world):
    """One folder for all cases: each overwrites what the last one left."""
    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(tiny_world / "starts", folder / "world" / "starts")
    for name in CASES:
        (folder / name).mkdir()
    return folder


def pictures():
    """Whole files of every kind that OpenCV reads, by name."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    whole = {f"a{end}": cv2.imencode(end, picture)[1].tobytes() for end in (".png", ".jpg", ".bmp", ".webp")}
    with tempfile.TemporaryDirectory() as made:
        for end, code in ((".mp4", "mp4v"), (".avi", "MJPG")):
            path = f"{made}/a{end}"
            writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*code), 10, (16, 16))
            for _ in range(3):
                writer.write(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            writer.release()
            whole[f"a{end}"] = Path(path).read_bytes()
    return whole


ACTIONS = npy(np.zeros((1, 2)))
CASES = {
    "episodes": (archives(EPISODE).map(lambda data: (data,)), try_episode),
    "starts": (st.tuples(archives(STARTS), texts(INDEX)), try_starts),
    "pictures": (
        st.deferred(lambda: st.one_of([st.tuples(st.just(n), spoilt(d)) for n, d in pictures().items()])),
        try_picture,
    ),
    "clips": (st.tuples(archives(CLIP), headers() | spoilt(ACTIONS)), try_clip),
}


def fuzz(kind, folder, count):
    strategy, attempt = CASES[kind]

    @lottery(count)
    @given(strategy)
    def run(case):
        attempt(folder / kind, *case)

    run()


def fuzz_world(folder, tiny_world, count):
    @lottery(count)
    @given(texts(world_values(tiny_world)))
    def run(data):
        try_world(folder / "world", data)

    run()


@pytest.mark.parametrize("kind", CASES)
def test_files_of_any_kind(kind, folder):
    fuzz(kind, folder, FEW)


def test_world_files_of_any_kind(folder, tiny_world):
    fuzz_world(folder, tiny_world, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_thousands_of_files(kind, folder):
    fuzz(kind, folder, MANY)


@pytest.mark.slow
def test_thousands_of_world_files(folder, tiny_world):
    fuzz_world(folder, tiny_world, MANY)


def header(shape, descr="|u1"):
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


BOMBS = {
    "a shape of terabytes": npz({**EPISODE, "frames": header((10**6, 2000, 2000, 3))}),
    "no frames, but huge ones": npz({**EPISODE, "frames": header((0, 2**60, 2**60, 3))}),
    "a product that overflows to 0": npz({**EPISODE, "frames": header((2**32, 2**32, 1, 3))}),
    "text of a gigabyte": npz({**EPISODE, "task": header((), "<U268435456")}),
    "letters beyond Unicode": npz({**EPISODE, "task": header((), "<U1") + b"\xff\xff\xff\x7f"}),
    "a pickle": npz({**EPISODE, "task": np.array({}, dtype=object)}),
    "not a zip": b"PK\3\4",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_bombs_cost_nothing(data, tmp_path):
    (tmp_path / "bomb.npz").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"bomb\.npz is (damaged|not a whole)"):
            Episode.load(tmp_path / "bomb.npz")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_zip_that_swells(tmp_path):
    """30 MB of zeros in 30 kB: the limit is for what comes out, and holds before anything is unpacked."""
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("frames.npy", "w") as member,
    ):
        member.write(header((30 * 10**6,)))
        for _ in range(30):
            member.write(bytes(10**6))
    assert path.stat().st_size < 10**5
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than the 10,000,000 left"):
            read_arrays(path, most=10**7)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_picture_that_swells(tmp_path):
    """A PNG of a few hundred bytes that says it has 10^10 pixels."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.png"):
        read_context(tmp_path / "a.png", *FACTS)


def test_what_is_whole_is_read(tmp_path):
    episode = Episode(
        **{k: EPISODE[k] for k in ("frames", "actions", "success", "states")}, task="t", behaviour="b", seed=3
    )
    episode.save(tmp_path / "0.npz")
    np.testing.assert_array_equal(EpisodeFolder(tmp_path)[0].states, episode.states)
    np.testing.assert_array_equal(EpisodeFolder(tmp_path)[0].frames, episode.frames)
    assert Episode.load(tmp_path / "0.npz").frames.flags.writeable
    np.save(tmp_path / "f.npy", np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    np.testing.assert_array_equal(read_array(tmp_path / "f.npy"), np.arange(6.0).reshape(2, 3))
    StartContexts([Context("a", EPISODE["frames"], EPISODE["actions"], 1)]).save(tmp_path)
    assert StartContexts.load(tmp_path).ids == ("a",)


def test_episodes_that_do_not_go_together(tmp_path):
    for name, length in (("0", 3), ("1", 4)):
        frames = np.zeros((length, 8, 8, 3), np.uint8)
        Episode(frames, np.zeros((length - 1, 2), np.float32), np.zeros(length, bool), "t", "b", 0).save(
            tmp_path / f"{name}.npz"
        )
    with pytest.raises(ValueError, match=r"1\.npz.*\(4, 8, 8, 3\).*\(3, 8, 8, 3\)"):
        load_frames([tmp_path])
    with pytest.raises(ValueError, match=r"1\.npz.*\(3, 2\).*\(2, 2\)"):
        load_actions([tmp_path])
