"""Checkpoint files in the released layout with random weights, of any size: for trying every code path."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from v2w_gym.world_model.diffusion import alphas_cumprod, dynamic_scale
from v2w_gym.world_model.released import skeleton
from v2w_gym.world_model.released.parts import PREFIXES
from v2w_gym.world_model.released.presets import shipped
from v2w_gym.world_model.released.sizes import sizes_from
from v2w_gym.world_model.released.source import cache_folder

_TINY: Mapping[str, Mapping[str, Any]] = {
    "unet_config": {
        "model_channels": 32,
        "channel_mult": [1, 1, 1],
        "num_res_blocks": 1,
        "attention_resolutions": [4],
        "num_head_channels": 8,
        "context_dim": 32,
    },
    "image_proj_stage_config": {
        "dim": 32,
        "depth": 1,
        "dim_head": 16,
        "heads": 2,
        "embedding_dim": 32,
        "output_dim": 32,
    },
    "cond_stage_config": {
        "arch": {"width": 32, "layers": 2, "heads": 2, "context_length": 77, "vocabulary": 8},
    },
    "img_cond_stage_config": {
        "arch": {"width": 32, "layers": 1, "heads": 2, "patch_size": 14, "image_size": 28},
    },
}
_TINY_LAYERS = {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1}
_TINY_SAMPLER = {"steps": 2, "window": 3}


def tiny_values(domain: str) -> dict[str, Any]:
    """What the shipped file of sizes would say of a model with few channels; frames have their real size.

    Raises:
        ValueError: an unknown domain.
    """
    values: dict[str, Any] = yaml.safe_load(shipped(domain).read_text())
    values["sampler"] |= _TINY_SAMPLER
    params = values["model"]["params"]
    for stage, sizes in _TINY.items():
        params[stage]["params"] |= sizes
    params["first_stage_config"]["params"]["ddconfig"] |= _TINY_LAYERS
    return values


def tiny_checkpoint(domain: str) -> tuple[Path, Path]:
    """A small random checkpoint of a domain and the file of its sizes, both in the cache.

    Raises:
        ValueError: an unknown domain.
    """
    values = tiny_values(domain)
    name = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_folder() / "tiny-random" / f"{domain}-{name}"
    weights, sizes = folder / "model.ckpt", folder / "config.json"
    if not weights.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        sizes.write_text(json.dumps(values, indent=2))
        unfinished = folder / f"{os.getpid()}.unfinished"
        write_random(unfinished, values)
        os.replace(unfinished, weights)
    return weights, sizes


def write_random(
    path: str | Path, values: Mapping[str, Any], seed: int = 0, dtype: torch.dtype = torch.float32
) -> None:
    """Write a file as Lightning does, with the layout of the released ones.

    Args:
        path: file to write.
        values: sizes, as the released yaml has them; a tower that is null is left out.
        seed: of the weights; they have the first values of an ordinary training.
        dtype: of the weights.
    """
    sizes = sizes_from(values)
    signal = alphas_cumprod(sizes.schedule).float()
    state = {"alphas_cumprod": signal, "scale_arr": dynamic_scale(levels=1400).float()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for prefix, part in _parts(values):
            state |= {prefix + name: value.to(dtype) for name, value in part.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 0, "global_step": 0}, path)


def _parts(values: Mapping[str, Any]) -> Iterator[tuple[str, nn.Module]]:
    """Each part with the beginning of its names."""
    sizes, params = sizes_from(values), values["model"]["params"]
    yield PREFIXES["unet"], skeleton.unet(params["unet_config"]["params"])
    yield PREFIXES["autoencoder"], skeleton.autoencoder(params["first_stage_config"]["params"])
    yield PREFIXES["resampler"], skeleton.resampler(params["image_proj_stage_config"]["params"])
    if sizes.image_tower is not None:
        yield PREFIXES["image_tower"], skeleton.image_tower(sizes.image_tower)
    if sizes.text_tower is not None:
        yield PREFIXES["text_tower"], skeleton.text_tower(sizes.text_tower)
