"""A checkpoint file as its authors released it to a world folder's model: codec, UNet, conditioner, schedule.

No second copy of the weights is made: tensors stay in the mapped file, modules are built without memory and
given those tensors, and are written one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from v2w_gym.weights import fill_strictly
from v2w_gym.world_model.released.autoencoder import load_autoencoder
from v2w_gym.world_model.released.conditioner import Conditioner
from v2w_gym.world_model.released.container import read_checkpoint
from v2w_gym.world_model.released.empty_caption import empty_caption
from v2w_gym.world_model.released.image_tower import load_image_tower
from v2w_gym.world_model.released.parts import Part, split
from v2w_gym.world_model.released.presets import check_domain, domain_of, shipped
from v2w_gym.world_model.released.rename import rename
from v2w_gym.world_model.released.resampler import load_resampler
from v2w_gym.world_model.released.sizes import Sizes, beside, read_sizes
from v2w_gym.world_model.released.staging import Staging
from v2w_gym.world_model.released.unet import unet_rules, unet_tensor
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.unet import VideoUNet
from v2w_gym.world_model.vid2world import Vid2World

Weights = dict[Part, dict[str, torch.Tensor]]
_BASE_KERNEL = re.compile(r".*temopral_conv\.(conv1\.2|conv[234]\.3)\.weight")


def convert(
    source: str | Path,
    out: str | Path,
    *,
    config: str | Path | None = None,
    domain: str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
) -> Path:
    """Convert a checkpoint file to the folder ``out``, which ``Vid2World.from_pretrained`` reads.

    Work is done in ``OUT.partial``. A conversion that was killed goes on with the parts that are missing when
    it is asked for again; one that fails leaves nothing behind. Where ``out`` is the result of the same
    conversion already, nothing is done.

    Args:
        source: Lightning, DeepSpeed or bare file of torch, or safetensors.
        out: folder to make.
        config: sizes, named as in the released yaml; None takes a ``config.json`` or ``config.yaml`` of such
            sizes beside the file, else those of the released models.
        domain: ``"rt1"``, ``"csgo"`` or ``"recon"``; None reads it off the width of the actions.
        dtype: of the weights written; None keeps that of the file.
        progress: whether to show a bar.

    Returns:
        ``out``.

    Raises:
        FileExistsError: ``out`` is there and something else.
        FileNotFoundError: no such file.
        ImportError: the file has OpenCLIP towers, and transformers is not installed.
        OSError: too little disk space.
        ValueError: a damaged or foreign file, sizes that do not fit it, or the wrong domain.
    """
    config = beside(source) if config is None else config
    asked = {"domain": domain, "dtype": str(dtype)}
    with Staging(Path(source), Path(out), config, asked) as staging:
        if not staging.done:
            model = assemble(source, config=config, domain=domain, dtype=dtype)
            staging.write(model, progress)
    return staging.out


def assemble(
    source: str | Path,
    *,
    config: str | Path | None = None,
    domain: str | None = None,
    dtype: torch.dtype | None = None,
) -> Vid2World:
    """The model of a checkpoint file, for writing; its weights lie in the mapped file where they can.

    Args and errors as in :func:`convert`.
    """
    stated = None if config is None else read_sizes(config)
    parts = split(read_checkpoint(source))
    width = _action_width(parts["unet"], source)
    check_domain(domain, width, str(source))
    domain = domain or domain_of(width)
    sizes = stated or _sizes(domain, width, source)
    if width != sizes.unet["action_dim"]:
        raise ValueError(
            f"{source} reads actions of {width} components, "
            f"but {config} states action_dim {sizes.unet['action_dim']}"
        )
    for tower, size in (("image_tower", sizes.image_tower), ("text_tower", sizes.text_tower)):
        _check_tower(tower, bool(parts[tower]), size is not None, source)  # type: ignore[index]
    dtype = dtype or next(iter(parts["unet"].values())).dtype
    codec = load_autoencoder(parts["autoencoder"], sizes.autoencoder, sizes.scale_factor)
    return Vid2World(
        codec.to(dtype),
        _unet(parts["unet"], sizes.unet, dtype),
        sizes.frame_size,
        sizes.schedule,
        _sampler(sizes, domain),
        _conditioner(parts, sizes).to(dtype),
        action_bound=None,
    )


def _action_width(unet: Mapping[str, torch.Tensor], source: str | Path) -> int:
    """Components of an action, read off the first layer that takes them."""
    table, first = unet.get("action_emb_preprocess.weight"), unet.get("action_emb_proj.0.weight")
    if table is not None:
        return len(table)
    if first is not None:
        return int(first.shape[-1])
    if any(_BASE_KERNEL.fullmatch(name) for name in unet):
        raise ValueError(
            f"{source} is a DynamiCrafter file, the video model that Vid2World starts from: it takes no "
            "actions and sees the future. It needs weight transfer "
            "(v2w_gym.world_model.released.transfer.transfer) and then fine-tuning on recorded actions; a "
            "released Vid2World file needs neither"
        )
    raise ValueError(
        f"{source} has no layers that take actions (action_emb_proj), so it is no Vid2World file"
    )


def _sizes(domain: str | None, width: int, source: str | Path) -> Sizes:
    if domain is None:
        raise ValueError(
            f"{source} reads actions of {width} components, which no released model does (13, 51, 3); "
            "give its sizes: --config FILE, or config=... in Python"
        )
    return read_sizes(shipped(domain))


def _sampler(sizes: Sizes, domain: str | None) -> SamplerConfig:
    """How to sample: as the sizes say, else as the domain does, else as all released models do.

    The window is cut to what the network was made for.
    """
    if sizes.sampler is not None:
        return sizes.sampler
    given = read_sizes(shipped(domain or "rt1")).sampler
    assert given is not None  # all shipped files state it
    window = given.window if domain is not None else None
    return replace(given, window=None if window is None else min(window, int(sizes.unet["window"])))


def _check_tower(name: str, held: bool, stated: bool, source: str | Path) -> None:
    stage = {"image_tower": "img_cond_stage_config", "text_tower": "cond_stage_config"}[name]
    if held and not stated:
        raise ValueError(f"{source} holds an {name}, for which the configuration has no {stage}")
    if stated and not held:
        raise ValueError(
            f"{source} lacks the {name}, which the configuration states; if that is meant, set {stage} to "
            "null in a configuration of your own (its model then cannot begin an episode from frames)"
        )


def _unet(weights: Mapping[str, torch.Tensor], sizes: Mapping[str, Any], dtype: torch.dtype) -> VideoUNet:
    with torch.device("meta"):
        unet = VideoUNet(**sizes).type(dtype)
    named = rename(weights, unet_rules(sizes))
    laid_out = {name: unet_tensor(name, value).contiguous() for name, value in named.items()}
    filled: VideoUNet = fill_strictly(unet, laid_out)
    return filled


def _conditioner(parts: Weights, sizes: Sizes) -> Conditioner:
    tower, caption = None, None
    if sizes.image_tower is not None:
        tower = load_image_tower(parts["image_tower"], sizes.image_tower)
    if sizes.text_tower is not None:
        caption = empty_caption(parts["text_tower"], sizes.text_tower)
    return Conditioner(load_resampler(parts["resampler"], sizes.resampler), tower, caption)
