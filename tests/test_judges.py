"""Judges of clips that need no download: what they are shown, what they are asked, and who decides."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from v2w_gym.config import from_dict, to_dict
from v2w_gym.rewards import judges
from v2w_gym.rewards.ensemble import Ensemble, EnsembleConfig, agreement_of
from v2w_gym.rewards.framechoice import FrameChoice
from v2w_gym.rewards.judge import Clip, Judgement
from v2w_gym.rewards.judges import judge_config, judge_names, open_judge
from v2w_gym.rewards.prompts import Answer, Prompt
from v2w_gym.rewards.rubric import Rubric
from v2w_gym.rewards.rules import by_rule


def numbered(count, height=4, width=6):
    """Frames that are as bright as their place in the clip."""
    return (
        np.ones((count, height, width, 3), np.uint8) * np.arange(count, dtype=np.uint8)[:, None, None, None]
    )


@pytest.mark.parametrize(
    ("choice", "frames", "expected"),
    [
        (FrameChoice("last"), 7, [6]),
        (FrameChoice("first_last"), 7, [0, 6]),
        (FrameChoice("first_last"), 1, [0]),
        (FrameChoice("even", count=3), 7, [0, 3, 6]),
        (FrameChoice("even", count=1), 7, [6]),
        (FrameChoice("even", count=8), 3, [0, 1, 2]),
        (FrameChoice("every", stride=3), 8, [1, 4, 7]),
        (FrameChoice("every", stride=20), 8, [7]),
        (FrameChoice("all"), 3, [0, 1, 2]),
    ],
)
def test_the_right_frames_are_shown(choice, frames, expected):
    pictures = choice.pictures(numbered(frames))
    assert choice.indices(frames) == expected
    assert [int(picture[0, 0, 0]) for picture in pictures] == expected


@given(
    st.sampled_from(["last", "first_last", "even", "every", "all"]),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_the_last_frame_is_always_shown_and_none_twice(rule, frames, count, stride):
    chosen = FrameChoice(rule, count, stride).indices(frames)
    assert chosen[-1] == frames - 1
    assert chosen == sorted(set(chosen))
    assert chosen[0] >= 0


def test_a_montage_shows_all_frames_in_reading_order():
    (picture,) = FrameChoice("all", columns=3).pictures(numbered(5))
    assert picture.shape == (8, 18, 3)
    tiles = picture.reshape(2, 4, 3, 6, 3)[:, 0, :, 0, 0]
    assert tiles.tolist() == [[0, 1, 2], [3, 4, 0]]  # what is left over stays black
    assert FrameChoice("all", columns=9).pictures(numbered(2))[0].shape == (4, 12, 3)


@pytest.mark.parametrize(("size", "shape"), [(3, (2, 3, 3)), (12, (8, 12, 3)), (6, (4, 6, 3))])
def test_frames_are_scaled_by_their_longer_side(size, shape):
    (picture,) = FrameChoice("last", size=size).pictures(numbered(4))
    assert picture.shape == shape
    assert picture.dtype == np.uint8
    assert (picture == 3).all()


@pytest.mark.parametrize("values", [{"count": 0}, {"stride": 0}, {"columns": 0}, {"size": -1}])
def test_a_choice_of_nothing_is_refused(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))} of a frame choice must be at least 1"):
        FrameChoice(**values)


def test_an_instruction_is_filled_in_as_it_stands():
    prompt = Prompt("Is '{instruction}' done? {}", (Answer(1.0, ("yes",)),))
    assert prompt.fill("put {a} on {instruction}") == "Is 'put {a} on {instruction}' done? {}"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prompt("done?", (Answer(1.0, ("yes",)),)), "must say {instruction}"),
        (lambda: Prompt("{instruction}?", ()), "needs answers"),
        (lambda: Answer(1.5, ("yes",)), "must lie in 0..1"),
        (lambda: Answer(1.0, (" ",)), "forms that say something"),
        (lambda: Rubric("{instruction} {grades}", ("bad", "good"), passing=2), "passing must be a grade"),
        (lambda: Rubric("{instruction}", ("bad", "good"), passing=1), "must say {grades}"),
        (lambda: EnsembleConfig(()), "needs members"),
        (lambda: EnsembleConfig(("drawer_close",), need=2), "need must be 1 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


RUBRIC = judge_config("progress")[1].rubric


def one_hot(place, length):
    return [float(i == place) for i in range(length)]


def test_a_rubric_scores_grades_and_discounts_artefacts():
    clean, worst = one_hot(0, 4), one_hot(3, 4)
    assert RUBRIC.score(one_hot(5, 6), clean) == (1.0, 1.0)
    assert RUBRIC.score(one_hot(4, 6), clean) == (0.8, 0.0)
    assert RUBRIC.score(one_hot(5, 6), one_hot(2, 4)) == (0.5, 0.5)
    assert RUBRIC.score(one_hot(5, 6), worst) == (0.0, 0.0)
    assert RUBRIC.score([0, 0, 0, 0, 0.5, 0.5]) == pytest.approx((0.9, 0.5))
    assert replace(RUBRIC, passing=4).score([0, 0, 0, 0, 0.5, 0.5]) == pytest.approx((0.9, 1.0))


def test_the_questions_of_a_rubric_list_its_scales():
    grade, artefact = RUBRIC.grade_prompt(), RUBRIC.artefact_prompt()
    assert "5: the task is done" in grade.fill("wait")
    assert [answer.worth for answer in grade.answers] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert "0: not at all" in artefact.fill("wait")
    assert [answer.worth for answer in artefact.answers] == [1.0, 0.9, 0.5, 0.0]
    assert replace(RUBRIC, artefacts=()).artefact_prompt() is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.sampled_from(["any", "last", "held_3"]))
def test_a_rule_reaches_a_threshold_when_it_holds_of_what_reaches_it(scores, rule):
    """So a probability by a rule and the rule's verdict on flags never disagree, whatever the threshold."""
    for threshold in (0.1, 0.5, *scores):
        flags = [score >= threshold for score in scores]
        assert (by_rule(scores, rule) >= threshold) == bool(by_rule(flags, rule)) or threshold == 0.0


@pytest.fixture(scope="module")
def clips(tiny_world):
    rng = np.random.default_rng(1)
    return [
        Clip(rng.integers(0, 256, (frames, 48, 48, 3), dtype=np.uint8), "close the drawer")
        for frames in (1, 2, 6, 9)
    ]


@pytest.fixture
def frame_judge(tiny_world, tmp_path):
    """Opens the tiny world's detector as a judge, through a file as users write it."""

    def opened(**settings):
        path = tmp_path / "judge.yaml"
        path.write_text(yaml.safe_dump({"kind": "frame_classifier", "world": str(tiny_world), **settings}))
        return open_judge(path)

    return opened


@pytest.mark.parametrize("rule", ["any", "last", "held_2"])
def test_a_frame_classifier_judges_clips_as_a_ranking_does(frame_judge, clips, rule):
    judge = frame_judge(rule=rule)
    for clip, judgement in zip(clips, judge.judge(clips), strict=True):
        after_actions = clip.frames[1:] if len(clip.frames) > 1 else clip.frames
        flags = judge.detector.score(after_actions) >= judge.threshold
        wanted = "success" if by_rule(flags, rule) else "failure"
        assert judgement.verdict(judge.threshold) == wanted


def test_what_a_frame_classifier_hangs_on_is_in_its_hash(frame_judge):
    assert frame_judge().hash == frame_judge().hash != frame_judge(rule="last").hash
    assert frame_judge(threshold=0.9).threshold == 0.9
    assert frame_judge().judge([]) == []


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((0, 48, 48, 3), np.uint8), r"frames of clip 1 must end in \(h, w, 3\), got \(0, 48"),
        (np.zeros((48, 48, 3), np.uint8), r"frames of clip 1 must be \(f, h, w, 3\), got \(48"),
        (np.zeros((2, 48, 48, 3), np.float32), "frames of clip 1 must be uint8"),
    ],
)
def test_a_clip_of_a_wrong_shape_is_named(frame_judge, clips, frames, message):
    with pytest.raises(ValueError, match=message):
        frame_judge().judge([clips[0], Clip(frames, "wait")])


class Says:
    """A member that says the same of every clip."""

    def __init__(self, *probabilities, threshold=0.5):
        self.probabilities, self.threshold, self.hash = probabilities, threshold, str(probabilities)

    def judge(self, clips):
        return [Judgement(p, tokens=3, cost=0.5) for p in self.probabilities[: len(clips)]]


def ensemble(*members, **settings):
    return Ensemble(EnsembleConfig(tuple(f"m{i}" for i in range(len(members))), **settings), members)


CLIP = Clip(numbered(2), "wait")


@pytest.mark.parametrize(
    ("says", "settings", "expected"),
    [
        ((0.9, 0.8, 0.1), {}, 0.6),
        ((0.9, 0.8, 0.1), {"rule": "majority"}, 2 / 3),
        ((0.9, 0.1), {"rule": "majority"}, None),
        ((0.9, None, 0.5), {}, 0.7),
        ((0.9, None, None), {}, None),
        ((0.9, None, None), {"need": 1}, 0.9),
        ((None, None), {"need": 1}, None),
        ((0.9, 0.8, 0.1), {"agree": 0.7}, None),
        ((0.9, 0.8, 0.1), {"agree": 0.6}, 0.6),
    ],
)
def test_an_ensemble_weighs_its_members(says, settings, expected):
    (judgement,) = ensemble(*(Says(p) for p in says), **settings).judge([CLIP])
    assert judgement.probability == (None if expected is None else pytest.approx(expected))
    assert judgement.votes == says
    assert judgement.tokens == 3 * len(says)
    assert judgement.cost == 0.5 * len(says)


def test_a_majority_goes_by_each_members_own_threshold():
    members = [Says(0.002, threshold=0.001), Says(0.3, threshold=0.2), Says(0.4, threshold=0.5)]
    (judgement,) = ensemble(*members, rule="majority").judge([CLIP])
    assert judgement.verdict(0.5) == "success"
    assert judgement.reason == "agreement 0.67; m0: success; m1: success; m2: failure"


def test_agreement_leaves_out_who_could_not_tell():
    assert agreement_of(["success", "unscorable", "success"]) == 1.0
    assert agreement_of(["success", "failure"]) == 0.5
    assert agreement_of(["unscorable"]) is None


def test_a_member_that_fails_is_one_vote_that_could_not_be_read():
    class Broken(Says):
        def judge(self, clips):
            raise ConnectionError("nobody home")

    class Silent(Says):
        def judge(self, clips):
            return []

    (found,) = ensemble(Says(0.9), Broken(0.0), Says(0.8), rule="majority").judge([CLIP])
    assert (found.probability, found.votes, found.tokens) == (1.0, (0.9, None, 0.8), 6)
    assert "m1: unscorable (the judge failed: ConnectionError: nobody home); m2: success" in found.reason
    (found,) = ensemble(Says(0.9), Broken(0.0), Silent(0.0)).judge([CLIP])
    assert found.probability is None
    assert found.reason.startswith("1 members could score, 2 must; ")
    assert "m2: unscorable (the judge failed: RuntimeError: it gave 0 judgements of 1 clips)" in found.reason

    class Particular(Says):
        def judge(self, clips):
            raise ValueError("frames must be 64x64")

    with pytest.raises(ValueError, match="64x64"):
        ensemble(Says(0.9), Particular(0.0), need=1).judge([CLIP])


def test_an_ensemble_of_files(frame_judge, clips, tmp_path):
    frame_judge()
    path = tmp_path / "both.yaml"
    path.write_text(yaml.safe_dump({"kind": "ensemble", "members": [str(tmp_path / "judge.yaml")] * 2}))
    judge, alone = open_judge(path), open_judge(tmp_path / "judge.yaml")
    together = [judgement.probability for judgement in judge.judge(clips)]
    assert together == pytest.approx([judgement.probability for judgement in alone.judge(clips)])
    assert judge.hash != alone.hash


@pytest.mark.parametrize("name", judge_names())
def test_settings_of_every_judge_that_ships_survive_a_round_trip(name):
    kind, config = judge_config(name)
    assert kind in judges.KINDS.values()
    assert from_dict(type(config), to_dict(config)) == config


@pytest.mark.parametrize("name", judges.KINDS)
def test_an_unknown_key_is_an_error_for_every_kind(name, tmp_path):
    path = tmp_path / "judge.yaml"
    path.write_text(f"kind: {name}\nmodell: x\n")
    with pytest.raises(ValueError, match=r"unknown key 'modell' in .*judge\.yaml"):
        open_judge(path)


@pytest.mark.parametrize("key", [5, None, True, 0.5])
def test_a_key_that_is_no_text_is_an_unknown_one(key):
    with pytest.raises(ValueError, match=rf"unknown key {key} in EnsembleConfig; known keys: "):
        from_dict(EnsembleConfig, {"members": ["drawer_close"], key: 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: locl_vlm", "did you mean 'local_vlm'"),
        ("model: x", "must say one of kind: local_vlm"),
        ("- a", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("kind: [local_vlm]", "must say one of kind"),
        (
            "kind: local_vlm\nmodel: x\nprompt: yes_no\nthreshold: 50",
            "threshold must lie above 0 and up to 1",
        ),
        ("kind: local_rubric\nmodel: x\nrubric: progress\nthreshold: 0", "threshold must lie"),
        ("kind: frame_classifier\nworld: x\nthreshold: 0", "threshold must lie"),
        ("kind: video_classifier\nmodel: x\nthreshold: .nan", "threshold must lie"),
        ("kind: ensemble\nmembers: [drawer_close]\nthreshold: -1", "threshold must lie"),
        ("kind: local_vlm\nmodel: x\nprompt: yes_now", "did you mean 'yes_no'"),
        ("kind: local_vlm\nmodel: x", r"lacks the key\(s\) \['prompt'\]"),
        ("kind: frame_classifier\nworld: x\nrule: sometimes", "success_rule must be"),
        ("kind: video_classifier\nmodel: x\nstride: 0", "at least 1"),
        ("kind: video_classifier\nmodel: x\nactivation: sigmoid\nsuccess: [a, b]", "one for sigmoid"),
        ("kind: local_vlm\nmodel: x\nprompt: yes_no\nframes: {rule: some}", "must be one of"),
    ],
)
def test_a_file_that_does_not_fit_says_what_does(text, message, tmp_path):
    path = tmp_path / "judge.yaml"
    path.write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_judge(path)


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no device 'cudda' here .* say device=\"cpu\""):
        open_judge("drawer_close", device="cudda")


def test_an_unknown_name_is_told_from_a_missing_file():
    with pytest.raises(FileNotFoundError, match=r"no judge 'drawer_closed': .* did you mean 'drawer_close'"):
        open_judge("drawer_closed")


@pytest.mark.parametrize("name", ["smolvlm", "progress"])
def test_without_transformers_the_line_to_type_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "v2w_gym\[judges\]"'):
        open_judge(name)
