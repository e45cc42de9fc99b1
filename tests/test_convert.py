"""Released checkpoints to worlds: nothing is lost on the way, and bad files leave nothing behind."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from parity import (
    CHECKPOINT,
    CONFIG,
    PARITY,
    RELEASED_SAMPLER,
    RELEASED_SCHEDULE,
    needs_parity,
    released_model,
)
from safetensors.torch import load_file, save_file
from tensordict import TensorDict

from v2w_gym import Vid2World
from v2w_gym.world_model.released import skeleton, source, staging
from v2w_gym.world_model.released.convert import convert
from v2w_gym.world_model.released.presets import PRESETS, shipped
from v2w_gym.world_model.released.random_weights import tiny_values, write_random
from v2w_gym.world_model.released.sizes import read_sizes

FRAME = (64, 128)


def small_values(domain: str = "rt1", towers: bool = False) -> dict[str, Any]:
    """Sizes of a domain's model with few channels and small frames."""
    values = tiny_values(domain)
    params = values["model"]["params"]
    params["image_size"] = [side // 8 for side in FRAME]
    if not towers:
        params["cond_stage_config"] = params["img_cond_stage_config"] = None
    return values


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small random checkpoint of RT-1's kind, without towers, and the file of its sizes."""
    folder = tmp_path_factory.mktemp("small")
    weights, config = folder / "model.ckpt", folder / "config.json"
    config.write_text(json.dumps(small_values()))
    write_random(weights, small_values())
    return weights, config


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("V2W_CACHE", str(folder))
    return folder


def change(path: Path, out: Path, edit) -> Path:
    """Copy a checkpoint with another state dict."""
    content = torch.load(path, weights_only=True)
    edit(content["state_dict"])
    torch.save(content, out)
    return out


def equal(a: Vid2World, b: Vid2World) -> bool:
    mine, theirs = (
        {f"{part}.{k}": v for part, m in x.parts().items() for k, v in m.state_dict().items()} for x in (a, b)
    )
    return mine.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in mine.items())


# --- layout


@needs_parity
def test_the_random_layout_is_the_public_one():
    manifest = json.loads((PARITY / "checkpoint_manifest.json").read_text())
    params, ours = json.loads(CONFIG.read_text())["model"]["params"], {}
    for prefix, part, stage in (
        ("model.diffusion_model.", skeleton.unet, "unet_config"),
        ("first_stage_model.", skeleton.autoencoder, "first_stage_config"),
        ("image_proj_model.", skeleton.resampler, "image_proj_stage_config"),
    ):
        ours |= {prefix + k: list(v.shape) for k, v in part(params[stage]["params"]).state_dict().items()}
    assert ours == {name: entry["shape"] for name, entry in manifest.items() if "." in name}


@pytest.mark.parametrize("domain", PRESETS)
def test_shipped_sizes_are_the_released_ones(domain):
    sizes = read_sizes(shipped(domain))
    assert sizes.frame_size == (320, 512)
    assert sizes.unet["action_dim"] == PRESETS[domain].action_dim
    assert sizes.sampler.history_level == "penultimate"
    assert sizes.sampler.window <= sizes.unet["window"]
    params = yaml.safe_load(shipped(domain).read_text())["model"]["params"]["unet_config"]["params"]
    with torch.device("meta"):
        tensors = skeleton.unet(params).state_dict()
    rest = {name: value.numel() for name, value in tensors.items() if not name.startswith("action_")}
    assert len(rest) == 1516
    assert round(sum(rest.values()) / 1e6, 1) == 1438.9


# --- the public entry point


@needs_parity
def test_the_public_entry_point_reads_schedule_and_sampler():
    model = released_model()
    assert model.dynamics.diffusion.config == RELEASED_SCHEDULE
    assert model.dynamics.sampler.config == replace(RELEASED_SAMPLER, window=10)
    assert model.frame_size == (64, 96)
    assert model.action_bound is None
    assert released_model().dynamics.sampler.history_level == 39


@needs_parity
def test_every_tensor_of_the_file_is_in_the_folder(tmp_path):
    out = convert(CHECKPOINT, tmp_path / "out", config=CONFIG, progress=False)
    manifest = json.loads((PARITY / "checkpoint_manifest.json").read_text())
    held = [load_file(path) for path in out.glob("*/*.safetensors")]
    count = sum(len(part) for part in held)
    total = sum(float(value.double().sum()) for part in held for value in part.values())
    named = {name: entry for name, entry in manifest.items() if "." in name}
    assert count == len(named)
    assert total == pytest.approx(sum(entry["sum"] for entry in named.values()), rel=1e-6)


def test_file_folder_and_cache_give_the_same_bits(small, tmp_path, cache):
    weights, config = small
    out = convert(weights, tmp_path / "out", config=config, progress=False)
    models = [Vid2World.from_pretrained(weights, config=config) for _ in range(2)]
    assert len(list((cache / "converted").iterdir())) == 1
    models.append(Vid2World.from_pretrained(out))
    torch.manual_seed(0)
    latents, actions = torch.randn(1, 2, 4, 8, 16), torch.randn(1, 1, 13)
    context = {"given": torch.randn(1, 333, 32), "free": torch.randn(1, 333, 32)}
    tokens = TensorDict(context, batch_size=[1])
    made = [m.dynamics.step(m.dynamics.init(latents, actions, [3], tokens), actions[:, 0]) for m in models]
    assert all(torch.equal(state.latent, made[0].latent) for state in made)
    assert all(equal(model, models[0]) for model in models)


@pytest.mark.parametrize("kind", ["deepspeed", "bare", "safetensors", "folder"])
def test_every_container_converts_to_the_same(small, tmp_path, kind, cache):
    weights, config = small
    state = torch.load(weights, weights_only=True)["state_dict"]
    path = tmp_path / ("m.safetensors" if kind == "safetensors" else "m.pt")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "deepspeed":
        torch.save({"module": {f"_forward_module.{k}": v for k, v in state.items()}}, path)
    else:
        torch.save(state, path)
    given = tmp_path if kind == "folder" else path
    expected = Vid2World.from_pretrained(weights, config=config)
    assert equal(Vid2World.from_pretrained(given, config=config), expected)


def test_half_precision_is_written_and_read(small, tmp_path):
    weights, config = small
    out = convert(weights, tmp_path / "out", config=config, dtype=torch.bfloat16, progress=False)
    stored = [value for path in out.glob("*/*.safetensors") for value in load_file(path).values()]
    assert {value.dtype for value in stored} == {torch.bfloat16}
    assert next(Vid2World.from_pretrained(out).unet.parameters()).dtype == torch.float32


# --- bad files and wishes

UNET = "model.diffusion_model."


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda s: s.update({UNET + "extra.weight": torch.ones(1)}), r"unknown .1.: extra\.weight"),
        (lambda s: s.update({"model_ema.decay": torch.ones(1)}), r"unknown .1.: model_ema\.decay"),
        (lambda s: s.pop(UNET + "out.2.conv2d.bias"), r"missing .1.: conv_out\.bias"),
        (
            lambda s: s.update({UNET + "out.2.conv2d.bias": torch.ones(5)}),
            r"conv_out\.bias is .5,., expected",
        ),
        (lambda s: s.pop("first_stage_model.quant_conv.bias"), r"missing .1.: quant_conv\.bias"),
        (lambda s: s.pop("image_proj_model.latents"), r"missing .1.: latents"),
        (
            lambda s: s.update({"embedder.model.visual.proj": torch.ones(1)}),
            "holds an image_tower, for which the configuration has no img_cond_stage_config",
        ),
        (lambda s: [s.pop(k) for k in list(s) if "action_emb" in k], "no layers that take actions"),
    ],
    ids=["extra", "stray", "missing", "shape", "codec", "resampler", "tower", "no-actions"],
)
def test_a_key_too_many_too_few_or_misshapen_is_named(small, tmp_path, cache, edit, words):
    bad = change(small[0], tmp_path / "bad.ckpt", edit)
    with pytest.raises(ValueError, match=words):
        Vid2World.from_pretrained(bad, config=small[1])
    assert not cache.exists()


def test_the_base_model_is_not_taken_for_a_released_one(small, tmp_path, cache):
    def base(state):
        for name in [name for name in state if "action_emb" in name]:
            del state[name]
        for name in [name for name in state if ".conv3d." in name or ".conv2d." in name]:
            state[name.replace(".conv3d.", ".").replace(".conv2d.", ".")] = state.pop(name)

    bad = change(small[0], tmp_path / "dynamicrafter.ckpt", base)
    with pytest.raises(ValueError, match=r"DynamiCrafter file.*weight transfer.*fine-tuning"):
        Vid2World.from_pretrained(bad, config=small[1])
    assert not cache.exists()


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return exec, (f"open({str(self.target)!r}, 'w').close()",)


def test_malicious_truncated_and_foreign_files_leave_no_trace(small, tmp_path, cache):
    weights, config = small
    evil, cut, text = (tmp_path / name for name in ("evil.ckpt", "cut.ckpt", "text.ckpt"))
    torch.save({"state_dict": {"a": torch.ones(1)}, "callbacks": Payload(tmp_path / "trace")}, evil)
    cut.write_bytes(weights.read_bytes()[:-5000])
    text.write_text("<html>")
    for path, words in ((evil, "is refused"), (cut, "cut short"), (text, "no checkpoint")):
        with pytest.raises(ValueError, match=words):
            Vid2World.from_pretrained(path, config=config)
        with pytest.raises(ValueError, match=words):
            convert(path, tmp_path / "out" / "world", config=config)
    assert not (tmp_path / "trace").exists()
    assert not cache.exists()
    assert not (tmp_path / "out").exists()


def test_a_wrong_domain_is_refused_before_anything_is_written(small, tmp_path, cache):
    weights, config = tmp_path / "csgo.ckpt", tmp_path / "csgo.json"
    config.write_text(json.dumps(small_values("csgo")))
    write_random(weights, small_values("csgo"))
    words = r"actions of 51 components, but RT-1 has 13; they are those of CS:GO: domain 'csgo'"
    with pytest.raises(ValueError, match=words):
        convert(weights, tmp_path / "out", config=config, domain="rt1")
    with pytest.raises(ValueError, match=r"51 components, but .* states action_dim 13"):
        convert(weights, tmp_path / "out", config=small[1])
    with pytest.raises(ValueError, match="unknown domain 'moon'"):
        convert(weights, tmp_path / "out", config=config, domain="moon")
    assert not (tmp_path / "out").exists()
    assert not cache.exists()
    folder = convert(weights, tmp_path / "out", config=config, progress=False)
    with pytest.raises(ValueError, match=words):
        source.located(folder, domain="rt1")
    with pytest.raises(ValueError, match="lacks the image_tower, which the configuration states"):
        convert(weights, tmp_path / "other")


def test_no_disk_space_is_said_in_numbers(small, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    with pytest.raises(OSError, match=r"no disk space: .* needs 0\.02 GB, .* has 0\.00 GB free.*V2W_CACHE="):
        Vid2World.from_pretrained(small[0], config=small[1])
    assert not cache.exists()


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(small, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Vid2World, "save_settings", full)
    with pytest.raises(OSError, match="No space left"):
        convert(small[0], tmp_path / "out", config=small[1], progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_conversion_goes_on_with_what_is_missing(small, tmp_path, monkeypatch):
    weights, config = small
    whole = Vid2World.save_part
    written = []

    def interrupted(self, name, path):
        if name == "conditioner":
            (Path(path) / name).mkdir(parents=True)  # half of it
            raise KeyboardInterrupt
        written.append(name)
        whole(self, name, path)

    monkeypatch.setattr(Vid2World, "save_part", interrupted)
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            convert(weights, out, config=config, progress=False)
    assert written == ["codec", "unet"]  # once
    assert partial.is_dir()
    assert not out.exists()

    def counted(self, name, path):
        written.append(name)
        whole(self, name, path)

    monkeypatch.setattr(Vid2World, "save_part", counted)
    convert(weights, out, config=config, progress=False)
    assert written == ["codec", "unet", "conditioner"]
    assert not partial.exists()
    assert not (out / "unfinished").exists()
    fresh = convert(weights, tmp_path / "fresh", config=config, progress=False)
    assert equal(Vid2World.from_pretrained(out), Vid2World.from_pretrained(fresh))


@pytest.mark.slow
def test_what_another_source_left_unfinished_is_made_afresh(small, tmp_path, monkeypatch):
    weights, config = small

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Vid2World, "save_settings", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert(weights, tmp_path / "out", config=config, progress=False)
    other = tmp_path / "other.ckpt"
    write_random(other, small_values(), seed=1)
    out = convert(other, tmp_path / "out", config=config, progress=False)
    assert equal(Vid2World.from_pretrained(out), Vid2World.from_pretrained(other, config=config))


def test_a_folder_that_is_there_is_not_overwritten(small, tmp_path):
    weights, config = small
    out = convert(weights, tmp_path / "out", config=config, progress=False)
    stamp = (out / "unet" / "config.json").stat().st_mtime_ns
    assert convert(weights, out, config=config, progress=False) == out
    assert (out / "unet" / "config.json").stat().st_mtime_ns == stamp
    with pytest.raises(FileExistsError, match="is there already, and not from this conversion"):
        convert(weights, out, config=config, dtype=torch.bfloat16)
    with pytest.raises(FileNotFoundError, match="no checkpoint file"):
        convert(tmp_path / "none.ckpt", tmp_path / "out2")
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


# --- the hub


class Hub:
    """A repository on the hub: a folder."""

    def __init__(self, monkeypatch, folder: Path) -> None:
        import huggingface_hub

        self.folder, self.asked = folder, []
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", self.list_repo_files)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)

    def list_repo_files(self, _repository):
        return [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]

    def snapshot_download(self, _repository, allow_patterns=None, local_files_only=False):
        self.asked.append(allow_patterns)
        return str(self.folder)


def test_a_hub_id_is_a_world_or_a_single_checkpoint(small, tmp_path, cache, monkeypatch):
    weights, config = small
    repository = tmp_path / "repository"
    repository.mkdir()
    shutil.copy(weights, repository / "epoch=9.ckpt")
    hub = Hub(monkeypatch, repository)
    model = Vid2World.from_pretrained("someone/model", config=config)
    assert hub.asked == [["epoch=9.ckpt"]]
    shutil.copy(weights, repository / "epoch=10.ckpt")
    with pytest.raises(
        ValueError, match=r"holds 2 checkpoints: epoch=10\.ckpt, epoch=9\.ckpt; give the path"
    ):
        Vid2World.from_pretrained("someone/model", config=config)
    world = convert(weights, tmp_path / "world", config=config, progress=False)
    hub.folder = world
    assert source.located("someone/model") == world
    assert equal(Vid2World.from_pretrained("someone/model"), model)


def test_what_is_nowhere_says_what_to_type(tmp_path):
    with pytest.raises(FileNotFoundError, match="hf download someone/model"):
        source.located("someone/model")
    with pytest.raises(FileNotFoundError, match="expected a world folder, a checkpoint file"):
        source.located("no-such-thing.ckpt")
    with pytest.raises(FileNotFoundError, match="neither a world"):
        source.located(tmp_path)
