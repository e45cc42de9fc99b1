"""The success detector: files, calibration, thresholds, and that it can be trained."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from v2w_gym.data.episode import Episode
from v2w_gym.rewards.classifier import ClassifierConfig, FrameClassifier
from v2w_gym.training.augment import light, through_codec
from v2w_gym.training.calibration import choose_threshold, count_verdicts, fit_calibration, reliability
from v2w_gym.training.codec import CodecConfig, build
from v2w_gym.training.detector import DetectorConfig, add_to_card, confusion, near_a_turn, read, train
from v2w_gym.training.loop import LoopConfig

TINY = ClassifierConfig(frame_size=(16, 16), channels=(4, 4, 8), squeeze=4, hidden=8)


def frames(count, seed=0, size=16):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_scores_are_probabilities_and_do_not_depend_on_the_batch():
    detector = FrameClassifier(TINY).eval()
    given = frames(7)
    scores = detector.score(given)
    assert scores.shape == (7,)
    assert scores.dtype == np.float32
    assert ((scores > 0) & (scores < 1)).all()
    np.testing.assert_allclose(detector.score(given[3:4]), scores[3:4], atol=1e-6)
    assert detector.score(given[:0]).shape == (0,)


def test_it_survives_its_folder(tmp_path):
    detector = FrameClassifier(TINY).calibrated(2.0, 0.5, 0.7)
    detector.save_pretrained(tmp_path)
    again = FrameClassifier.from_pretrained(tmp_path)
    assert (again.hash, again.threshold, again.config) == (detector.hash, 0.7, detector.config)
    np.testing.assert_array_equal(again.score(frames(3)), detector.score(frames(3)))
    assert FrameClassifier(TINY).hash != detector.hash


def test_it_refuses_bad_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        FrameClassifier.from_pretrained(tmp_path)
    FrameClassifier(TINY).save_pretrained(tmp_path)
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    good_config, good_weights = config.read_text(), weights.read_bytes()
    config.write_text(json.dumps({**json.loads(good_config), "treshold": 1}))
    with pytest.raises(ValueError, match="did you mean 'threshold'"):
        FrameClassifier.from_pretrained(tmp_path)
    config.write_text(json.dumps({**json.loads(good_config), "hidden": 9}))
    with pytest.raises(ValueError, match="do not fit"):
        FrameClassifier.from_pretrained(tmp_path)
    config.write_text(good_config)
    weights.write_bytes(good_weights[: len(good_weights) // 2])
    with pytest.raises(ValueError, match="damaged"):
        FrameClassifier.from_pretrained(tmp_path)


def test_it_refuses_bad_frames():
    with pytest.raises(ValueError, match="uint8"):
        FrameClassifier(TINY).score(frames(1).astype(np.float32))
    with pytest.raises(ValueError, match="resize"):
        FrameClassifier(TINY).score(frames(1, size=32))


def test_calibration_finds_the_temperature_that_made_the_flags():
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 6.0, 6_000)
    flags = rng.random(6_000) < 1 / (1 + np.exp(-(logits / 3.0 - 1.0)))
    temperature, shift = fit_calibration(logits, flags)
    assert temperature == pytest.approx(3.0, rel=0.1)
    assert shift == pytest.approx(-1.0, abs=0.1)
    calibrated = 1 / (1 + np.exp(-(logits / temperature + shift)))
    assert reliability(calibrated, flags)["expected_calibration_error"] < 0.02
    assert reliability(1 / (1 + np.exp(-logits)), flags)["expected_calibration_error"] > 0.05
    with pytest.raises(ValueError, match="of success and of failure"):
        fit_calibration(logits, np.zeros(6_000, bool))


def test_threshold_lies_between_success_and_failure_and_ignores_the_start():
    probability = np.array([[0.99, 0.30, 0.10], [0.00, 0.20, 0.80], [0.00, 0.10, 0.05]])
    flags = np.array([[False, False, False], [False, False, True], [False, False, False]])
    assert choose_threshold(probability, flags) == pytest.approx(0.55, abs=0.02)


def test_verdicts_are_counted_by_hand():
    counted = count_verdicts(np.array([1, 1, 0, 0, 0], bool), np.array([1, 0, 0, 0, 1], bool))
    assert counted == {
        "true_success": 1,
        "false_success": 1,
        "true_failure": 2,
        "false_failure": 1,
        "agreement": 0.6,
    }


@pytest.mark.parametrize(("near", "expected"), [(1, [3, 4]), (2, [2, 3, 4, 5])])
def test_frames_near_a_turn(near, expected):
    flags = np.array([[0, 0, 0, 0, 1, 1, 1]], bool)
    assert np.flatnonzero(near_a_turn(flags, near)[0]).tolist() == expected


def test_the_trip_through_the_codec_is_taken_by_its_share():
    torch.manual_seed(0)
    codec = build(CodecConfig((), (), "", channels=(8, 8, 16), latent_channels=4))
    given = torch.from_numpy(frames(4))
    before = given.clone()

    def seen(share, noise=0.0):
        return through_codec(codec, share, noise)(given, torch.Generator().manual_seed(0))

    generator = torch.Generator().manual_seed(0)
    torch.rand(4, generator=generator)  # which frames
    torch.testing.assert_close(seen(0.0), light(given, generator))
    assert not torch.allclose(seen(1.0), seen(0.0), atol=5.0)
    assert not torch.allclose(seen(1.0, noise=1.0), seen(1.0))
    assert torch.equal(given, before)


def record(folder, count, seed):
    """Episodes in which a bright square is success; it appears at some time, or never."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for index in range(count):
        film = rng.integers(0, 120, (9, 16, 16, 3), dtype=np.uint8)
        flags = np.arange(9) >= rng.integers(1, 18)
        film[flags, 4:9, 4:9] = 250
        actions = np.zeros((8, 4), np.float32)
        Episode(film, actions, flags, "toy", "toy", index).save(folder / f"{index:03d}.npz")


def test_training_learns_goes_on_after_a_stop_and_writes_a_card(tmp_path):
    record(tmp_path / "data", 30, seed=0)
    record(tmp_path / "heldout", 20, seed=1)
    loop = LoopConfig(steps=60, batch_size=32, learning_rate=1e-2, warmup=5, ema=0.9, precision="fp32")
    data, held = (str(tmp_path / "data"),), str(tmp_path / "heldout")
    config = DetectorConfig(data, held, loop=loop, classifier=TINY, validation=3)
    assert train(config, tmp_path / "out")
    folder = tmp_path / "out" / "detector"
    detector = FrameClassifier.from_pretrained(folder)
    heldout = read([tmp_path / "heldout"])
    result = confusion(detector, heldout.frames, heldout.flags)
    assert result["per_episode"]["agreement"] >= 0.95
    assert json.loads((folder / "report.json").read_text())["hash"] == detector.hash
    assert train(config, tmp_path / "out")  # nothing left to do: the same detector again
    assert FrameClassifier.from_pretrained(folder).hash == detector.hash
    build(CodecConfig((), (), "", channels=(8, 8, 16), latent_channels=4)).save_pretrained(tmp_path / "codec")
    more = replace(
        config, codec=str(tmp_path / "codec"), init=str(folder), loop=replace(loop, learning_rate=1e-6)
    )
    assert train(more, tmp_path / "more")  # hardly moved from where it started
    after = FrameClassifier.from_pretrained(tmp_path / "more" / "detector")
    np.testing.assert_allclose(after.logits(frames(3)), detector.logits(frames(3)), atol=0.05)
    add_to_card(folder, "imagined episodes", result)
    card = (folder / "README.md").read_text()
    assert "On recorded episodes, held out" in card
    assert "On imagined episodes" in card
