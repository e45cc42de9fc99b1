"""The parts of a released checkpoint against values that the public code computed, and against bad files."""

from __future__ import annotations

import json
import os
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from v2w_gym.config import from_dict
from v2w_gym.world_model.released.autoencoder import AutoencoderConfig, load_autoencoder, posterior
from v2w_gym.world_model.released.container import read_checkpoint
from v2w_gym.world_model.released.image_tower import ImageTowerConfig, load_image_tower, preprocess
from v2w_gym.world_model.released.parts import split
from v2w_gym.world_model.released.rename import fill_strictly, rename
from v2w_gym.world_model.released.resampler import ResamplerConfig, load_resampler

PARITY = Path(os.environ.get("V2W_PARITY", Path(__file__).parents[2] / "shared" / "parity"))
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason=f"no reference fixtures in {PARITY}")


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
    with pytest.raises(ValueError, match="do not fit ModuleList") as caught:
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
def test_autoencoder_equals_the_public_code(released):
    codec, stored = codec_of(released), load_file(PARITY / "vae.safetensors")
    close(codec.vae.encode(stored["image"]).latent_dist.parameters, stored["moments"])
    mean, deviation = posterior(codec, stored["image"])
    close(mean + deviation * stored["posterior_noise"], stored["latent_scaled"])
    decoded = codec.vae.decode(stored["latent_scaled"] * codec.std + codec.mean).sample
    close(decoded, stored["decoded"])
    assert codec.reduction == 8


@needs_parity
def test_the_codec_encodes_the_mean_and_survives_a_round_trip_to_disk(released, tmp_path):
    codec = codec_of(released)
    frames = torch.randint(0, 256, (2, 32, 48, 3), dtype=torch.uint8)
    mean, deviation = posterior(codec, codec.pixels(frames))
    assert torch.equal(codec.encode(frames), mean)
    assert (deviation > 0).all()
    codec.save_pretrained(tmp_path)
    again = type(codec).from_pretrained(tmp_path)
    assert torch.equal(again.encode(frames), mean)


@needs_parity
def test_resampler_equals_the_public_code(released):
    parts, config = released
    sizes = from_dict(ResamplerConfig, config["image_proj_stage_config"]["params"])
    stored = load_file(PARITY / "resampler.safetensors")
    with torch.no_grad():
        close(load_resampler(parts["resampler"], sizes)(stored["clip_tokens"]), stored["image_tokens"])


@needs_parity
def test_sizes_that_do_not_fit_the_weights_are_reported(released):
    parts, config = released
    values = config["image_proj_stage_config"]["params"]
    with pytest.raises(ValueError, match=r"do not fit Resampler(.|\n)*wrong shape"):
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


# --- image tower: no reference values exist, so a second, independent one is written here


class Block(nn.Module):
    """A layer as OpenCLIP names its parts; the fused projection is torch's own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp["c_proj"](functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class ReferenceTower(nn.Module):
    def __init__(self, config: ImageTowerConfig) -> None:
        super().__init__()
        width, count = config.width, (config.image_size // config.patch_size) ** 2
        self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(count + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.proj = nn.Parameter(torch.randn(width, 8))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(images), 1, -1)
        x = self.ln_pre(torch.cat([first, patches], 1) + self.positional_embedding)
        for block in self.transformer["resblocks"]:
            x = block(x)
        return x


TINY = ImageTowerConfig(width=24, layers=2, heads=3, patch_size=4, image_size=16)


def reference_tower() -> ReferenceTower:
    torch.manual_seed(0)
    tower = ReferenceTower(TINY).eval()
    with torch.no_grad():
        for parameter in tower.parameters():  # biases start at zero, gains at one: hide nothing
            parameter.add_(0.3 * torch.randn_like(parameter))
    return tower


def test_image_tower_gives_all_tokens_of_the_last_layer():
    pytest.importorskip("transformers", reason='needs pip install "v2w_gym[released]"')
    reference = reference_tower()
    tower = load_image_tower(reference.state_dict(), TINY)
    pixels = torch.rand(2, 3, 20, 32) * 2 - 1
    with torch.no_grad():
        expected = reference(preprocess(pixels, 16))
    assert expected.shape == (2, 17, 24)
    torch.testing.assert_close(tower(pixels), expected, rtol=1e-4, atol=1e-5)


def test_a_tower_with_a_tensor_missing_or_too_many_is_reported():
    pytest.importorskip("transformers", reason='needs pip install "v2w_gym[released]"')
    state = reference_tower().state_dict()
    with pytest.raises(ValueError, match=r"unknown .1.: attn_pool"):
        load_image_tower({**state, "attn_pool": torch.ones(1)}, TINY)
    del state["transformer.resblocks.1.attn.in_proj_bias"]
    with pytest.raises(ValueError, match=r"missing .3.: encoder\.layers\.1\.self_attn\.k_proj\.bias"):
        load_image_tower(state, TINY)


def test_without_transformers_the_line_to_type_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "v2w_gym\[released\]"'):
        load_image_tower({}, TINY)


def test_preprocessing_normalises_and_ignores_the_aspect():
    grey = torch.full((1, 3, 40, 64), 0.2)
    from v2w_gym.world_model.released.image_tower import DEVIATION, MEAN

    expected = (0.6 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    small = preprocess(grey, 16)
    assert small.shape == (1, 3, 16, 16)
    torch.testing.assert_close(small, expected.view(1, 3, 1, 1).expand_as(small))


def test_preprocessing_keeps_corners_in_place_and_blurs_only_what_shrinks():
    ramp = torch.linspace(-1, 1, 33).expand(1, 3, 9, 33)
    channel = lambda x: x[0, 0] * 0.26862954 + 0.48145466  # noqa: E731  the first one, back in 0..1
    grown = channel(preprocess(ramp, 65))
    torch.testing.assert_close(grown[:, [0, 32, 64]], torch.tensor([0.0, 0.5, 1.0]).expand(65, 3))
    stripes = torch.tensor([-1.0, 1.0]).repeat(48).expand(1, 3, 8, 96)
    assert channel(preprocess(stripes, 8)).sub(0.5).abs().max() < 0.02  # along the shrinking axis: grey
    rows = stripes.transpose(2, 3).contiguous()
    assert channel(preprocess(rows, 8)).sub(0.5).abs().max() < 0.02
    even = torch.tensor([-1.0, 1.0]).repeat(4)[:, None].expand(1, 3, 8, 96)
    torch.testing.assert_close(channel(preprocess(even, 8))[:, 0], torch.tensor([0.0, 1.0]).repeat(4))
