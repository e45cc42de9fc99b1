"""The video classifier: tiny random models of a real architecture, loaded as users load theirs."""

import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason='needs pip install "v2w_gym[judges]"')

import tinyvlms
from test_vlm_judges import probabilities, some_clips

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tinyvlms.videomae(tmp_path_factory.mktemp("models") / "videomae")


@pytest.fixture
def classifier(folder, tmp_path):
    """Opens a classifier through a file as users write it."""

    def opened(model=folder, **settings):
        settings = {"kind": "video_classifier", "model": str(model), **settings}
        return tinyvlms.opened(tmp_path / "judge.yaml", **settings)

    return opened


def test_a_video_classifier_sees_as_many_frames_as_it_reads(classifier):
    frames = np.ones((9, 16, 16, 3), np.uint8) * np.arange(9, dtype=np.uint8)[:, None, None, None]

    def shown(count, **settings):
        videos = classifier(**settings).videos(frames[:count])
        return [[int(frame[0, 0, 0]) for frame in video] for video in videos]

    assert shown(9) == [[0, 3, 5, 8]]
    assert shown(2) == [[0, 0, 1, 1]]
    assert shown(6, sampling="windows") == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]
    assert shown(9, sampling="windows", stride=3) == [[2, 3, 4, 5], [5, 6, 7, 8]]
    assert shown(1, sampling="windows") == [[0, 0, 0, 0]]


def test_a_video_classifier_maps_labels_to_probability(classifier):
    clips = some_clips()
    success = probabilities(classifier(success=["success"]).judge(clips))
    failure = probabilities(classifier(success=["failure"]).judge(clips))
    assert np.add(success, failure) == pytest.approx(1.0)
    both = classifier(success=["success", "failure"]).judge(clips)
    assert probabilities(both) == pytest.approx([1.0] * 5)
    sigmoid = probabilities(classifier(activation="sigmoid").judge(clips))
    assert sigmoid != pytest.approx(success)
    with pytest.raises(
        ValueError, match=r"knows no label \['done'\]; say success: \[...\] of \['failure', 'suc"
    ):
        classifier(success=["done"])


def test_a_video_classifier_that_cannot_be_shown_anything_is_refused_when_it_is_opened(classifier, tmp_path):
    folder = tinyvlms.videomae(tmp_path / "small")
    opened = classifier(folder)
    model = SimpleNamespace(config=SimpleNamespace(id2label={0: "success"}))
    with pytest.raises(ValueError, match=r"does not say how many frames it reads \(num_frames\)"):
        type(opened)(opened.config, replace(opened.loaded, model=model))
    del opened
    config = json.loads((folder / "preprocessor_config.json").read_text())
    config["crop_size"] = {"height": 32, "width": 32}  # the model takes 16
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises((ValueError, RuntimeError), match="16"):
        classifier(folder)


@pytest.mark.parametrize("rule", ["any", "last", "held_2"])
def test_a_rule_decides_over_windows_whatever_the_batch(classifier, rule):
    opened = classifier(sampling="windows", rule=rule, batch_size=3)
    clips = some_clips()
    alone = [opened.judge([clip])[0] for clip in clips]
    for together, single in zip(opened.judge(clips), alone, strict=True):
        assert together.probability == pytest.approx(single.probability, rel=1e-4)
    votes = alone[4].votes
    assert len(votes) == 6
    best = {
        "any": max(votes),
        "last": votes[-1],
        "held_2": max(map(min, pairwise(votes))),
    }
    assert alone[4].probability == best[rule]


def test_a_classifier_that_computes_nan_abstains(classifier, tmp_path):
    opened = classifier(tinyvlms.videomae(tmp_path / "ruined"))
    with torch.no_grad():
        opened.loaded.model.classifier.weight.fill_(torch.nan)
    assert probabilities(opened.judge(some_clips())) == [None] * 5
