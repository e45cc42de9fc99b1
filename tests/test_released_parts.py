"""The parts of a released checkpoint against values that the public code computed, and against bad files."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from parity import PARITY, needs_parity, released_model
from safetensors.torch import load_file, save_file
from torch import nn

from v2w_gym.config import from_dict
from v2w_gym.weights import fill_strictly
from v2w_gym.world_model.released.autoencoder import AutoencoderConfig, load_autoencoder
from v2w_gym.world_model.released.container import read_checkpoint
from v2w_gym.world_model.released.parts import split
from v2w_gym.world_model.released.rename import rename
from v2w_gym.world_model.released.resampler import ResamplerConfig, load_resampler


def weights() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.randn(300, 200), "a.bias": torch.arange(3.0)}


# --- files


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {"state_dict": w, "epoch": 3, "global_step": 7},
        lambda w: {"module": {f"_forward_module.{k}": v for k, v in w.items()}, "dp_world_size": 4},
        lambda w: w,
    ],
    ids=["lightning", "deepspeed", "bare"],
)
def test_every_container_gives_the_same_tensors(tmp_path, wrap):
    expected = weights()
    torch.save(wrap(expected), tmp_path / "m.ckpt")
    read = read_checkpoint(tmp_path / "m.ckpt")
    assert list(read) == list(expected)
    assert all(torch.equal(read[name], value) for name, value in expected.items())


def test_safetensors_are_read(tmp_path):
    expected = weights()
    save_file(expected, tmp_path / "m.safetensors")
    read = read_checkpoint(tmp_path / "m.safetensors")
    assert all(torch.equal(read[name], value) for name, value in expected.items())


class Payload:
    """Unpickled freely, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return exec, (f"open({str(self.target)!r}, 'w').close()",)


@pytest.mark.parametrize("kind", ["zip", "pickle"])
def test_a_file_that_runs_code_is_refused_and_does_not(tmp_path, kind):
    trace, path = tmp_path / "trace", tmp_path / "m.ckpt"
    content = {"state_dict": weights(), "callbacks": Payload(trace)}
    if kind == "zip":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    named = r"asks to run builtins\.exec\." if kind == "zip" else "bare pickle"
    with pytest.raises(ValueError, match=f"is refused: .*{named}"):
        read_checkpoint(path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if kind == "zip" else pickle.loads(path.read_bytes())
    assert trace.exists(), "the payload must be a real one"


@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_file_cut_short_is_named(tmp_path, kind, share):
    path = tmp_path / ("m.safetensors" if kind == "safetensors" else "m.ckpt")
    if kind == "safetensors":
        save_file(weights(), path)
    else:
        torch.save({"state_dict": weights()}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"(cut short|damaged).*fetch it again"):
        read_checkpoint(path)


def test_files_of_another_kind_are_refused(tmp_path):
    page, pointer, archive = (tmp_path / name for name in ("page.ckpt", "pointer.ckpt", "archive.ckpt"))
    page.write_text("<!DOCTYPE html>")
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("notes.txt", "no weights")
    (tmp_path / "empty.ckpt").touch()
    torch.save([torch.ones(1)], tmp_path / "list.ckpt")
    torch.save({"epoch": 3}, tmp_path / "none.ckpt")
    save_file({}, tmp_path / "none.safetensors")
    for name, words in {
        "page.ckpt": "DOCTYPE",
        "pointer.ckpt": "git lfs pull",
        "archive.ckpt": "no checkpoint",
        "empty.ckpt": "no checkpoint",
        "list.ckpt": "holds a list",
        "none.ckpt": "no tensors, only the entries .'epoch'",
        "none.safetensors": "no tensors",
    }.items():
        with pytest.raises(ValueError, match=words):
            read_checkpoint(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="missing"):
        read_checkpoint(tmp_path / "missing.ckpt")


# --- names


def test_each_name_is_matched_by_one_rule_or_dropped_by_name():
    source = {"layers.3.0.w": torch.ones(1), "old": torch.ones(2)}
    assert rename(source, [(r"layers\.(\d+)\.0\.(.+)", r"blocks.\1.\2")], ["old"]) == {
        "blocks.3.w": source["layers.3.0.w"]
    }
    for rules, ignored, words in [
        ([(r"layers.+", "x")], [], "unknown .1.: old"),
        ([(r"layers", "x")], ["old"], "unknown .1.: layers"),  # the whole name, not its beginning
        ([(r"layers.+", "x"), (r".*", "y")], [], "more than once .1.: layers"),
        ([(r".+", r"\g<0>")], ["old"], "more than once .1.: old"),
        ([(r".+", "same")], [], "renamed to one name .1.: old -> same"),
    ]:
        with pytest.raises(ValueError, match=words):
            rename(source, rules, ignored)


def test_a_report_shows_ten_of_each_kind_and_counts_the_rest():
    module = nn.ModuleList(nn.Linear(2, 2) for _ in range(8))
    given = {f"strange.{i:02d}": torch.ones(1) for i in range(12)} | {"0.weight": torch.ones(3, 2)}
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match="do not fit their config for ModuleList") as caught:
        fill_strictly(module, given)
    message = str(caught.value)
    assert "missing (15)" in message
    assert ", and 5 more" in message
    assert "left over (12): strange.00" in message
    assert "strange.10" not in message
    assert "0.weight is (3, 2), expected (2, 2)" in message
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_filling_takes_tensors_over_and_keeps_the_dtype_of_the_module():
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    weight, bias = torch.randn(2, 3), torch.randn(2, dtype=torch.float16)
    assert fill_strictly(module, {"weight": weight, "bias": bias}) is module
    assert module.weight.data_ptr() == weight.data_ptr()
    assert module.weight.requires_grad
    assert module.bias.dtype == torch.float32
    torch.testing.assert_close(module(torch.ones(1, 3)), weight.sum(1)[None] + bias.float())


def test_a_stray_tensor_is_an_error_and_the_useless_ones_are_dropped():
    useful = {"first_stage_model.quant_conv.weight": torch.ones(1)}
    useless = dict.fromkeys(("betas", "scale_arr", "sqrt_recipm1_alphas_cumprod"), torch.ones(1))
    useless |= dict.fromkeys(("posterior_mean_coef1", "embedder.model.ln_final.weight"), torch.ones(1))
    parts = split(useful | useless)
    assert parts["autoencoder"] == {"quant_conv.weight": torch.ones(1)}
    assert not any(found for part, found in parts.items() if part != "autoencoder")
    for stray in ("model_ema.decay", "first_stage_model_quant", "embedder.model.transformer.weight"):
        with pytest.raises(ValueError, match=f"unknown .1.: {stray}"):
            split({stray: torch.ones(1)})


# --- parity, through the checkpoint as it is released


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest value; float32 itself costs 1e-6 here."""
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.fixture(scope="module")
def released():
    """Parts of the small checkpoint in the released layout, and its configuration."""
    config = json.loads((PARITY / "config.json").read_text())["model"]["params"]
    return split(read_checkpoint(PARITY / "checkpoint.ckpt")), config


def codec_of(released):
    parts, config = released
    sizes = from_dict(AutoencoderConfig, config["first_stage_config"]["params"])
    return load_autoencoder(parts["autoencoder"], sizes, config["scale_factor"])


@needs_parity
def test_every_tensor_of_the_checkpoint_lands_in_a_part_or_is_dropped(released):
    manifest = json.loads((PARITY / "checkpoint_manifest.json").read_text())
    held = sum(len(part) for part in released[0].values())
    schedule = sum("." not in name for name in manifest)
    assert schedule == 13
    assert held + schedule == len(manifest)
    assert not released[0]["image_tower"]


@needs_parity
@pytest.mark.parametrize("way", ["parts", "from_pretrained"])
def test_autoencoder_equals_the_public_code(released, way):
    codec = codec_of(released) if way == "parts" else released_model().codec
    stored = load_file(PARITY / "vae.safetensors")
    close(codec.vae.encode(stored["image"]).latent_dist.parameters, stored["moments"])
    close(codec.encode_pixels(stored["image"], stored["posterior_noise"]), stored["latent_scaled"])
    close(codec.decode_pixels(stored["latent_scaled"]), stored["decoded"])
    assert codec.reduction == 8


@needs_parity
def test_the_codec_encodes_the_mean_and_survives_a_round_trip_to_disk(released, tmp_path):
    codec = codec_of(released)
    frames = torch.randint(0, 256, (2, 32, 48, 3), dtype=torch.uint8)
    mean = codec.encode(frames)
    pixels = codec.pixels(frames)
    assert torch.equal(codec.encode_pixels(pixels, torch.zeros_like(mean)), mean)
    assert not torch.equal(codec.encode_pixels(pixels, torch.ones_like(mean)), mean)
    codec.save_pretrained(tmp_path)
    again = type(codec).from_pretrained(tmp_path)
    assert torch.equal(again.encode(frames), mean)


@needs_parity
@pytest.mark.parametrize("way", ["parts", "from_pretrained"])
def test_resampler_equals_the_public_code(released, way):
    parts, config = released
    sizes = from_dict(ResamplerConfig, config["image_proj_stage_config"]["params"])
    direct = load_resampler(parts["resampler"], sizes)
    resampler = direct if way == "parts" else released_model().conditioner.resampler
    stored = load_file(PARITY / "resampler.safetensors")
    with torch.no_grad():
        close(resampler(stored["clip_tokens"]), stored["image_tokens"])


@needs_parity
def test_sizes_that_do_not_fit_the_weights_are_reported(released):
    parts, config = released
    values = config["image_proj_stage_config"]["params"]
    with pytest.raises(ValueError, match=r"do not fit their config for Resampler(.|\n)*wrong shape"):
        load_resampler(parts["resampler"], from_dict(ResamplerConfig, {**values, "output_dim": 7}))
    layers = config["first_stage_config"]["params"]["ddconfig"]
    with pytest.raises(ValueError, match=r"unknown .*up\.3|do not fit AutoencoderKL"):
        load_autoencoder(
            parts["autoencoder"],
            from_dict(AutoencoderConfig, {"embed_dim": 4, "ddconfig": {**layers, "ch_mult": [1, 2, 1]}}),
        )
    with pytest.raises(ValueError, match="attn_resolutions"):
        from_dict(AutoencoderConfig, {"embed_dim": 4, "ddconfig": {**layers, "attn_resolutions": [16]}})
    with pytest.raises(ValueError, match="embed_dim must equal"):
        from_dict(AutoencoderConfig, {"embed_dim": 5, "ddconfig": layers})
