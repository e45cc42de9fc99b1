"""Sizes of released checkpoints, read from files, and the weight transfer of the model they began from."""

from __future__ import annotations

import json

import pytest
import torch
from parity import PARITY, needs_parity, read

from v2w_gym import Vid2World
from v2w_gym.world_model.causalize import causalize
from v2w_gym.world_model.released.random_weights import tiny_values
from v2w_gym.world_model.released.sizes import beside, sizes_from
from v2w_gym.world_model.released.transfer import transfer


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("modle",), {}, "unknown keys .'modle'."),
        (("model", "parms"), {}, "unknown keys .'parms'."),
        (("model", "params", "linear_strat"), 0.1, "did you mean 'linear_start'"),
        (("model", "params", "parameterization"), "eps", "must be one of .'v'."),
        (("model", "params", "image_size"), 64, "image_size must be a list"),
        (("model", "params", "channels"), 8, r"must be equal, got \(8, 4, 4\)"),
        (
            ("model", "params", "unet_config", "params", "num_heads"),
            8,
            "unknown key .* in unet_config.params",
        ),
        (
            ("model", "params", "unet_config", "params", "model_channels"),
            "wide",
            "model_channels must be int",
        ),
        (("model", "params", "unet_config", "params"), {}, "lacks the key.*model_channels"),
        (("model", "params", "first_stage_config", "params", "ddconfig", "chh"), 8, "did you mean 'ch'"),
        (("model", "params", "image_proj_stage_config", "params", "dpeth"), 8, "did you mean 'depth'"),
        (("model", "params", "cond_stage_config"), {"params": {"arch": "B-16"}}, "must be ViT-H-14"),
        (("model", "params", "cond_stage_config"), {"params": {"layer": "last"}}, "penultimate"),
        (("model", "params", "cond_stage_config"), {"params": {"ucg": 1}}, "unknown keys .'ucg'."),
        (("sampler", "stpes"), 3, "did you mean 'steps'"),
    ],
)
def test_an_unknown_or_impossible_setting_is_named(place, value, words):
    values = tiny_values("rt1")
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(ValueError, match=words):
        sizes_from(values)


def test_what_only_the_trainer_reads_and_notes_are_skipped():
    values = tiny_values("rt1")
    plain = sizes_from(values)
    values |= {"data": {"batch": 2}, "lightning": {}, "_note": "x"}
    values["model"] |= {"base_learning_rate": 1e-5, "target": "LatentVisualDiffusion"}
    values["model"]["params"] |= {"uncond_prob": 0.05, "df_loss": True, "use_ema": False}
    assert sizes_from(values) == plain


@needs_parity
@pytest.mark.parametrize("mode", ["shift", "masked", "extrapolative"])
def test_weight_transfer_is_that_of_the_public_code(mode):
    given = read("weight_transfer")
    names = json.loads((PARITY / "weight_transfer_keys.json").read_text())
    base = {k.removeprefix("base/"): v for k, v in given.items() if k.startswith("base/")}
    base |= {
        k: torch.zeros(1, 1, 3, 1, 1) for k in [*names["renamed"], *names["unchanged_keys"]] if k not in base
    }
    causal = transfer(base, mode)
    assert set(causal) == {*names["renamed"].values(), *names["unchanged_keys"]}
    for name, expected in given.items():
        if name.startswith(f"{mode}/"):
            assert torch.allclose(causal[name.removeprefix(f"{mode}/")], expected, atol=1e-6), name
    with pytest.raises(ValueError, match="unknown weight transfer"):
        causalize({}, "sideways")


def test_sizes_beside_the_file_are_found_and_other_files_of_that_name_are_not(tmp_path):
    (tmp_path / "model.ckpt").touch()
    assert beside(tmp_path / "model.ckpt") is None
    (tmp_path / "config.json").write_text('{"architectures": ["Other"]}')
    assert beside(tmp_path / "model.ckpt") is None
    (tmp_path / "config.yaml").write_text("model: {params: {unet_config: {}}}")
    assert beside(tmp_path / "model.ckpt") == tmp_path / "config.yaml"


@needs_parity
def test_a_checkpoint_with_its_sizes_beside_it_needs_no_more():
    alone = Vid2World.from_pretrained(PARITY / "checkpoint.ckpt")
    named = Vid2World.from_pretrained(PARITY / "checkpoint.ckpt", config=PARITY / "config.json")
    assert alone.hash == named.hash
