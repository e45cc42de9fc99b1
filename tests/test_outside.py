"""Any picture becomes the frame that a model was trained on, and any clip a start context."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import v2w_gym
from v2w_gym.config import from_dict, to_dict
from v2w_gym.data.framing import Framing
from v2w_gym.data.outside import read_context, starts_from
from v2w_gym.envs.domains import DOMAINS

CLIPS = Path(__file__).parents[2] / "shared" / "data"
real_clips = pytest.mark.skipif(not CLIPS.is_dir(), reason=f"there are no recordings at {CLIPS}")
SIZE = (48, 48)
SMALL = Framing(source=(24, 20), picture=(48, 40), bars=(0, 0, 4, 4))
FACTS = (SIZE, 2, SMALL)


def picture(h=24, w=20, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (h, w, 3), dtype=np.uint8)


def fitted(*seeds):
    return SMALL.fit(np.stack([picture(seed=seed) for seed in seeds]))


# frames


@pytest.mark.parametrize("framing", [SMALL, *(domain.framing for domain in DOMAINS.values())])
@pytest.mark.parametrize("shape", ["source", (97, 131), (700, 333), (30, 400)])
def test_any_picture_becomes_a_frame_with_black_bars(framing, shape):
    clip = np.stack([picture(*(framing.source if shape == "source" else shape), seed) for seed in range(2)])
    frames = framing.fit(clip)
    assert (frames.shape, frames.dtype) == ((2, *framing.frame_size, 3), np.uint8)
    inside = framing.unpad(frames)
    assert inside.shape[1:3] == framing.picture
    assert int(frames.sum(dtype=np.int64)) == int(inside.sum(dtype=np.int64))  # all outside is black
    assert inside.any(axis=-1).all()  # and nothing inside is
    np.testing.assert_array_equal(framing.fit(frames), frames)


def test_released_frames_are_320_by_512():
    assert {domain.framing.frame_size for domain in DOMAINS.values()} == {(320, 512)}
    assert DOMAINS["rt1"].framing.bars == (0, 0, 56, 56)
    assert DOMAINS["csgo"].framing.bars == (22, 23, 0, 0)
    assert DOMAINS["recon"].framing.bars == (0, 0, 96, 96)


def test_other_proportions_lose_their_margin_only():
    inner = picture(24, 20)
    for wider in (((0, 0), (7, 7), (0, 0)), ((9, 9), (0, 0), (0, 0))):
        np.testing.assert_array_equal(SMALL.fit(np.pad(inner, wider)[None]), SMALL.fit(inner[None]))


def test_framings_that_make_no_sense_and_pictures_that_are_none():
    assert from_dict(Framing, json.loads(json.dumps(to_dict(SMALL)))) == SMALL
    for wrong in ({"bars": (0, 0, 1)}, {"bars": (0, 0, 1, -1)}, {"picture": (0, 4)}):
        with pytest.raises(ValueError, match="framing needs"):
            from_dict(Framing, {**to_dict(SMALL), **wrong})
    for bad in (picture(), picture()[None] / 255, "clip.mp4", np.zeros((0, 4, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="frames must"):
            SMALL.fit(bad)


@real_clips
@pytest.mark.parametrize("clip", ["18", "81"])
def test_csgo_frames_are_those_of_the_released_loader(clip):
    """The first frame of the small clips is the recording that the large ones show enlarged and padded."""
    facts = ((320, 512), 51, DOMAINS["csgo"].framing)
    ours = read_context(CLIPS / "csgo" / f"{clip}_fast.mp4", *facts).frames[0]
    theirs = read_context(CLIPS / "csgo" / f"{clip}_gt.mp4", *facts).frames[0]
    assert np.abs(ours.astype(int) - theirs).mean() < 2  # two rows or another interpolation: 4 and more


@real_clips
def test_rt1_clips_have_their_bars_where_the_framing_has_them():
    framing = DOMAINS["rt1"].framing
    for clip in sorted((CLIPS / "rt1").glob("*.mp4")):
        frame = read_context(clip, (320, 512), 13, framing).frames[0]
        assert framing.unpad(frame).max(axis=(0, 2)).min() > 16
        assert max(frame[:, :52].max(), frame[:, -52:].max()) < 16  # the video codec blurs the edge


# starts from outside


def write_image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(seed=seed)[..., ::-1])


def steps(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 2)).astype(np.float32)


def test_images_of_a_folder_are_starts_and_sub_folders_clips(tmp_path):
    for i in (2, 10, 1):
        write_image(tmp_path / f"view{i}.png", i)
        write_image(tmp_path / "known" / f"{i}.png", i)
        write_image(tmp_path / "unknown" / f"{i}.png", i)
    np.save(tmp_path / "known" / "actions.npy", steps(2))
    (tmp_path / "notes.txt").write_text("not a start")
    starts = starts_from(str(tmp_path), *FACTS)
    assert starts.ids == ("known", "unknown", "view1", "view2", "view10")
    np.testing.assert_array_equal(starts.by_id("view10").frames, fitted(10))
    np.testing.assert_array_equal(starts.by_id("unknown").frames, fitted(1))
    known = starts.by_id("known")
    np.testing.assert_array_equal(known.frames, fitted(1, 2, 10))
    np.testing.assert_array_equal(known.actions, steps(2))
    assert starts_from(tmp_path / "known", *FACTS).ids == ("known",)
    shorter = starts_from(tmp_path / "known", *FACTS, length=2).by_id("known")
    np.testing.assert_array_equal(shorter.frames, fitted(1, 2))
    with pytest.raises(ValueError, match="too few for a context of 2 frames"):
        starts_from(tmp_path, *FACTS, length=2)
    with pytest.raises(
        ValueError, match=r"equally many frames.*'known' frames \(3, .*'unknown' frames \(1, "
    ):
        starts.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(("frames", "actions"), [("image", "action"), ("frames", "actions")])
def test_npz_drops_the_action_that_leads_out(tmp_path, frames, actions):
    clip = np.stack([picture(seed=seed) for seed in range(3)])
    for count in (2, 3):
        np.savez(tmp_path / "episode.npz", **{frames: clip, actions: steps(3)[:count]})
        context = read_context(tmp_path / "episode.npz", *FACTS)
        np.testing.assert_array_equal(context.frames, fitted(0, 1, 2))
        np.testing.assert_array_equal(context.actions, steps(3)[:2])
    np.savez(tmp_path / "episode.npz", **{frames: clip})
    assert len(read_context(tmp_path / "episode.npz", *FACTS).frames) == 1


@real_clips
def test_video_gives_as_many_frames_as_actions_lead_to():
    clip, facts = CLIPS / "rt1" / "00005316_gt.mp4", ((320, 512), 13, DOMAINS["rt1"].framing)
    first = read_context(clip, *facts)
    assert (first.id, first.frames.shape, first.actions.shape) == ("00005316_gt", (1, 320, 512, 3), (0, 13))
    three = read_context(clip, *facts, actions=np.zeros((2, 13)))
    assert three.frames.shape == (3, 320, 512, 3)
    np.testing.assert_array_equal(three.frames[0], first.frames[0])
    assert len(starts_from(CLIPS / "rt1", *facts)) == len(list((CLIPS / "rt1").glob("*.mp4")))
    with pytest.raises(ValueError, match="at most 16"):
        read_context(clip, *facts, actions=np.zeros((40, 13)))


def test_arrays_and_saved_starts(tmp_path):
    clip = np.stack([picture(seed=seed) for seed in range(3)])
    starts = starts_from(clip, *FACTS)
    assert starts.ids == ("0000", "0001", "0002")
    np.testing.assert_array_equal(starts.by_id("0002").frames, fitted(2))
    assert len(starts_from(clip[0], *FACTS)) == 1
    v2w_gym.StartContexts([v2w_gym.Context("a", clip, steps(2), 7)]).save(tmp_path)
    again = starts_from(tmp_path, *FACTS).by_id("a")
    assert again.seed == 7
    np.testing.assert_array_equal(again.frames, fitted(0, 1, 2))
    np.testing.assert_array_equal(again.actions, steps(2))


def test_starts_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected an image"):
        starts_from(tmp_path / "nowhere.mp4", *FACTS)
    with pytest.raises(ValueError, match="nothing to start from"):
        starts_from(tmp_path, *FACTS)
    for name in ("a.png", "a.mp4", "a.npz", "a.txt"):
        for content in (b"", b"PK\x03\x04 junk"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match=f"{name} (is|holds)"):
                read_context(tmp_path / name, *FACTS)
    np.savez(tmp_path / "pickled.npz", image=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", pixels=picture())
    np.savez(tmp_path / "misfit.npz", image=picture()[None], action=np.zeros((1, 3)))
    for name, match in (("pickled", "plain arrays"), ("other", "holds pixels"), ("misfit", r"\(n, 2\)")):
        with pytest.raises(ValueError, match=match):
            read_context(tmp_path / f"{name}.npz", *FACTS)
    np.savez_compressed(tmp_path / "whole.npz", image=np.stack([picture(seed=s) for s in range(9)]))
    whole = (tmp_path / "whole.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:200] + bytes(100) + whole[300:]):
        (tmp_path / "damaged.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            read_context(tmp_path / "damaged.npz", *FACTS)
    with pytest.raises(ValueError, match=r"cv2\.resize"):
        starts_from(picture(), SIZE, 2)  # no framing: the exact size only
    with pytest.raises(ValueError, match="finite"):
        read_context(np.stack([picture()] * 2), *FACTS, actions=np.full((1, 2), np.nan))
