"""Judges over models of transformers: tiny random ones of real architectures, loaded as users load theirs."""

import hashlib
import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason='needs pip install "v2w_gym[judges]"')

import tinyvlms

from v2w_gym.config import from_dict, to_dict
from v2w_gym.rewards.chat import model_inputs
from v2w_gym.rewards.framechoice import FrameChoice
from v2w_gym.rewards.judge import Clip
from v2w_gym.rewards.prompts import Answer
from v2w_gym.rewards.vlm import LocalVlm
from v2w_gym.rewards.vlm_reader import VlmReader

pytestmark = pytest.mark.slow

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="the processor of Qwen-VL needs torchvision"
)
QWENS = [pytest.param(name, marks=needs_torchvision) for name in ("qwen2_5_vl", "qwen3_vl")]
FAMILIES = ["idefics3", "paligemma", *QWENS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of a tiny model of a family; made once."""
    made = {}

    def of(family):
        if family not in made:
            made[family] = getattr(tinyvlms, family)(tmp_path_factory.mktemp("models") / family)
        return made[family]

    return of


@pytest.fixture
def judge(folder, tmp_path):
    """Opens a judge over a tiny model through a file as users write it."""

    def opened(family, kind="local_vlm", **settings):
        if kind == "local_vlm":
            settings = {"prompt": "yes_no", "frames": {"count": 3}, **settings}
        settings = {"kind": kind, "model": str(folder(family)), **settings}
        return tinyvlms.opened(tmp_path / "judge.yaml", **settings)

    return opened


def some_clips(count=5, size=(24, 32)):
    """Clips of unlike lengths and instructions, so that a batch needs padding."""
    rng = np.random.default_rng(0)
    instructions = ["close the drawer", "wait", "put the green can into the top drawer and then close it"]
    return [
        Clip(rng.integers(0, 256, (1 + 2 * i, *size, 3), dtype=np.uint8), instructions[i % 3])
        for i in range(count)
    ]


def probabilities(judgements):
    return [judgement.probability for judgement in judgements]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prompt", ["yes_no", "completed", "vqa"])
def test_a_judgement_does_not_depend_on_the_batch(judge, family, prompt):
    clips = some_clips()
    together = judge(family, prompt=prompt, batch_size=5).judge(clips)
    backwards = judge(family, prompt=prompt, batch_size=2).judge(clips[::-1])[::-1]
    alone = [judge(family, prompt=prompt).judge([clip])[0] for clip in clips]
    assert probabilities(together) == pytest.approx(probabilities(alone), rel=1e-4)
    assert probabilities(backwards) == pytest.approx(probabilities(alone), rel=1e-4)
    assert [j.tokens for j in together] == [j.tokens for j in alone]


@pytest.mark.parametrize("family", FAMILIES)
def test_instruction_and_frames_both_matter(judge, family):
    clip = some_clips()[3]
    said = judge(family).judge(
        [
            clip,
            clip,
            replace(clip, instruction="open the drawer"),
            replace(clip, frames=255 - clip.frames),
            replace(clip, frames=clip.frames[::-1]),
        ]
    )
    same, again, *others = probabilities(said)
    assert same == pytest.approx(again, rel=1e-6)
    assert all(abs(other - same) > 1e-6 for other in others)


@pytest.mark.parametrize("family", FAMILIES)
def test_yes_and_no_share_all_there_is(judge, family):
    yes_no = judge(family)
    yes, no = yes_no.config.prompt.answers
    swapped = replace(yes_no.config.prompt, answers=(Answer(0.0, yes.forms), Answer(1.0, no.forms)))
    against = LocalVlm(replace(yes_no.config, prompt=swapped), yes_no.reader)
    for one, other in zip(yes_no.judge(some_clips()), against.judge(some_clips()), strict=True):
        assert one.probability + other.probability == pytest.approx(1.0)


def forced(reader, prompt, clip, form):
    """Log-probability of ``form`` after the prompt, from a forward pass over both: TOPReward's own way."""
    processor, model = reader.loaded.processor, reader.loaded.model
    inputs = model_inputs(processor, [clip], reader.config.frames, prompt, reader.config.show)
    (token,) = processor.tokenizer.encode(form, add_special_tokens=False)
    extended = {
        name: torch.cat([value, torch.full((1, 1), fill)], dim=1)
        for name, value, fill in (
            ("input_ids", inputs["input_ids"], token),
            ("attention_mask", inputs["attention_mask"], 1),
        )
    }
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        extended["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(kinds[:, :1])], dim=1)
    with torch.no_grad():
        logits = model(**{**inputs, **extended}).logits
    return float(torch.log_softmax(logits[0, -2].double(), dim=-1)[token])


@pytest.mark.parametrize("family", ["idefics3", *QWENS])
def test_the_completed_task_assertion_is_that_of_topreward(judge, family):
    opened, clip = judge(family, prompt="completed"), some_clips()[2]
    reader, prompt = opened.reader, opened.config.prompt
    (judgement,) = opened.judge([clip])
    text = reader.loaded.processor.tokenizer.decode(
        model_inputs(reader.loaded.processor, [clip], reader.config.frames, prompt)["input_ids"][0]
    )
    assert text.endswith(
        f"{clip.instruction} Decide whether the above statement is True or not. The answer is:"
    )
    assert np.log(judgement.probability) == pytest.approx(forced(reader, prompt, clip, " True"), abs=1e-4)


def test_a_further_form_adds_its_probability(judge):
    opened, clips = judge("idefics3", prompt="completed"), some_clips()
    answers = (replace(opened.config.prompt.answers[0], forms=(" True", " yes")),)
    prompt = replace(opened.config.prompt, answers=answers)
    both = LocalVlm(replace(opened.config, prompt=prompt), opened.reader)
    for clip, said in zip(clips, both.judge(clips), strict=True):
        parts = [np.exp(forced(opened.reader, prompt, clip, form)) for form in (" True", " yes")]
        assert said.probability == pytest.approx(sum(parts), rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_chosen_frame_becomes_one_picture_in_order(judge, family):
    reader = judge(family).reader
    clip = Clip(
        np.ones((9, 16, 16, 3), np.uint8) * np.arange(0, 180, 20, dtype=np.uint8)[:, None, None, None], "x"
    )
    for choice, count in (
        (FrameChoice("last"), 1),
        (FrameChoice("all"), 9),
        (FrameChoice("all", columns=3), 1),
    ):
        inputs = model_inputs(reader.loaded.processor, [clip], choice, judge(family).config.prompt)
        pixels = inputs["pixel_values"].float()
        if family.startswith("qwen"):
            assert len(inputs["image_grid_thw"]) == count
            pixels = pixels.reshape(count, -1)
        brightness = pixels.reshape(count, -1).mean(dim=1).tolist()
        assert brightness == sorted(brightness)


@pytest.mark.parametrize("family", QWENS)
def test_a_model_of_videos_reads_one_video(judge, family):
    opened, clips = judge(family, show="video"), some_clips()
    inputs = model_inputs(
        opened.reader.loaded.processor, clips, opened.config.frames, opened.config.prompt, "video"
    )
    assert len(inputs["video_grid_thw"]) == len(clips)
    alone = [opened.judge([clip])[0] for clip in clips]
    assert probabilities(opened.judge(clips)) == pytest.approx(probabilities(alone), rel=1e-4)
    assert opened.hash != judge(family).hash


def test_nan_is_unscorable_and_costs_no_other_clip(judge, folder, tmp_path):
    opened = judge("idefics3", dtype="fp32")
    ruined = tinyvlms.idefics3(tmp_path / "ruined")
    model = open_judge_model(opened, ruined)
    with torch.no_grad():
        model.loaded.model.get_output_embeddings().weight.fill_(torch.nan)
    said = LocalVlm(opened.config, model).judge(some_clips())
    assert probabilities(said) == [None] * 5
    assert all("NaN" in judgement.reason and "fp32" in judgement.reason for judgement in said)


def open_judge_model(opened, folder):
    """A reader of another model with the settings of a judge."""
    return VlmReader.open(replace(opened.config, model=str(folder)), "cpu")


def test_what_is_too_long_is_unscorable_and_the_rest_is_judged(judge, tmp_path):
    short = tinyvlms.idefics3(tmp_path / "short", context=190)
    opened = judge("idefics3", frames={"rule": "all"})
    clips = some_clips()
    said = LocalVlm(opened.config, open_judge_model(opened, short)).judge(clips)
    wanted = opened.judge(clips)
    fits = [judgement.tokens <= 190 for judgement in wanted]
    assert any(fits)
    assert not all(fits)
    for judgement, want, fit in zip(said, wanted, fits, strict=True):
        if fit:
            assert judgement.probability == pytest.approx(want.probability, rel=1e-4)
        else:
            assert "but the model reads 190: show fewer" in judgement.reason


class Cramped(VlmReader):
    """A reader on a device that has room for two clips at once, or for none."""

    room = 2

    def _forward(self, clips, prompt):
        if len(clips) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        return super()._forward(clips, prompt)


def test_a_batch_that_does_not_fit_memory_is_halved(judge):
    opened, clips = judge("idefics3"), some_clips()
    reader = Cramped(opened.config, opened.reader.loaded)
    said = LocalVlm(opened.config, reader).judge(clips)
    assert probabilities(said) == pytest.approx(probabilities(opened.judge(clips)), rel=1e-4)
    reader.room = 0
    assert [j.reason for j in LocalVlm(opened.config, reader).judge(clips[:1])] == [
        "the device ran out of memory over this clip: show fewer frames"
    ]


class Choosy(VlmReader):
    """A reader whose model fails over clips of one frame."""

    def _forward(self, clips, prompt):
        if any(len(clip.frames) == 1 for clip in clips):
            raise RuntimeError("shapes do not match\nsee above")
        return super()._forward(clips, prompt)


def test_a_clip_over_which_the_model_fails_costs_no_other(judge):
    opened, clips = judge("idefics3"), some_clips()
    said = LocalVlm(opened.config, Choosy(opened.config, opened.reader.loaded)).judge(clips)
    assert said[0].probability is None
    assert said[0].reason == "the model failed over this clip: shapes do not match"
    assert probabilities(said[1:]) == pytest.approx(probabilities(opened.judge(clips[1:])), rel=1e-4)


def test_a_clip_without_an_instruction_is_unscorable(judge):
    clip = some_clips()[1]
    with_, without = judge("idefics3").judge([clip, replace(clip, instruction=" ")])
    assert with_.probability is not None
    assert without.probability is None
    assert "no instruction" in without.reason


def test_judges_over_one_model_share_it(judge):
    assert judge("idefics3").reader.loaded is judge("idefics3", prompt="completed").reader.loaded


def test_the_hash_names_what_judgements_hang_on(judge, folder, tmp_path):
    plain = judge("idefics3")
    assert plain.hash == judge("idefics3", batch_size=1, threshold=0.7).hash
    others = [
        judge("idefics3", prompt="completed"),
        judge("idefics3", frames={"rule": "last"}),
        judge("idefics3", dtype="bf16"),
        judge("paligemma"),
    ]
    assert len({plain.hash, *(other.hash for other in others)}) == 5


def test_a_model_of_the_hubs_cache_is_its_copy_in_a_folder(judge, folder, tmp_path, monkeypatch):
    """The cache holds links to files that are called by what they contain; nothing asks the network."""
    cached, commit = tmp_path / "models--owner--tiny", "1" * 40
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    snapshot = cached / "snapshots" / commit
    shutil.copytree(folder("idefics3"), snapshot)
    (cached / "blobs").mkdir()
    weights = snapshot / "model.safetensors"
    blob = cached / "blobs" / hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.rename(blob)
    weights.symlink_to(blob)
    (snapshot / "README.md").write_text("notes do not count")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    plain = judge("idefics3")
    for name in ("owner/tiny", f"owner/tiny@{commit}"):
        opened = judge("idefics3", model=name)
        assert opened.hash == plain.hash
        assert opened.judge(some_clips()) == plain.judge(some_clips())


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_of_the_processor_can_be_replaced(judge, family):
    plain, other = judge(family), judge(family, processor={"do_normalize": False})
    assert plain.hash != other.hash
    with pytest.raises(ValueError, match="has no setting 'do_normalise'; did you mean 'do_normalize'"):
        judge(family, processor={"do_normalise": False})
    pairs = zip(plain.judge(some_clips()), other.judge(some_clips()), strict=True)
    assert all(abs(one.probability - two.probability) > 1e-6 for one, two in pairs)


def test_settings_survive_a_round_trip(judge):
    config = judge("idefics3").config
    assert from_dict(type(config), to_dict(config)) == config


def test_a_model_that_does_not_fit_says_which_do(judge, tmp_path):
    classifier = tinyvlms.videomae(tmp_path / "classifier")
    with pytest.raises(ValueError, match="must be an image-text-to-text model, such as Qwen"):
        judge("idefics3", model=str(classifier))
    with pytest.raises(ValueError, match="must be a video classification model"):
        judge("idefics3", kind="video_classifier")
    with pytest.raises(FileNotFoundError, match="hf download no/such-model --local-dir FOLDER"):
        judge("idefics3", model="no/such-model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no processor"):
        judge("idefics3", model=str(tmp_path / "empty"))


def test_settings_that_do_not_fit_the_model_show_at_once(judge):
    with pytest.raises(ValueError, match="reads no video; say show: images"):
        judge("idefics3", show="video")
    long = {"text": "{instruction}?", "answers": [{"worth": 1.0, "forms": ["incomprehensible"]}]}
    with pytest.raises(ValueError, match=r"writes no form of the answer .* as one token"):
        judge("idefics3", prompt=long)
    same = [{"worth": 1.0, "forms": ["yes", "no"]}, {"worth": 0.0, "forms": ["no"]}]
    with pytest.raises(ValueError, match="share the token 'no'"):
        judge("idefics3", prompt={"text": "{instruction}?", "answers": same})
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        judge("idefics3", batch_size=0)


def test_an_instruction_cannot_pose_as_a_picture(judge):
    with pytest.raises(ValueError, match=r"may not hold '<image>'"):
        judge("idefics3").judge([replace(some_clips()[0], instruction="close <image>")])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rubric_gives_progress_and_probability(judge, family):
    opened, clips = judge(family, kind="local_rubric", rubric="progress"), some_clips()
    plain = replace(opened.config, rubric=replace(opened.config.rubric, artefacts=()))
    undiscounted = type(opened)(plain, opened.reader).judge(clips)
    grade = opened.config.rubric.grade_prompt()
    expected = LocalVlm(replace(judge(family).config, prompt=grade), opened.reader).judge(clips)
    for said, before, wanted in zip(opened.judge(clips), undiscounted, expected, strict=True):
        assert before.progress == pytest.approx(wanted.probability)  # worths of the grades are their shares
        assert 0.0 < said.progress < before.progress <= 1.0
        assert said.probability / before.probability == pytest.approx(said.progress / before.progress)
        assert said.probability <= said.progress + 1e-9
        assert said.tokens > before.tokens
    assert opened.hash != type(opened)(plain, opened.reader).hash


REAL = Path(__file__).parents[2] / "shared" / "data" / "rt1"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no recorded clips in {REAL}")
@pytest.mark.parametrize("family", [*FAMILIES, "videomae"])
def test_recorded_and_imagined_clips_of_a_robot_are_judged(judge, family):
    import imageio.v3 as iio

    clips = [Clip(iio.imread(path), "close the drawer", fps=3.0) for path in sorted(REAL.glob("*.mp4"))]
    kind = "video_classifier" if family == "videomae" else "local_vlm"
    said = judge(family, kind=kind).judge(clips)
    assert len(said) == len(clips) == 6
    assert len({round(p, 9) for p in probabilities(said)}) == 6
