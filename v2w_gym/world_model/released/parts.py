"""The parts that a released checkpoint holds in one file, told apart by the beginning of their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from v2w_gym.world_model.released.rename import rename

Part = Literal["unet", "autoencoder", "resampler", "image_tower", "text_tower"]
PREFIXES: dict[Part, str] = {
    "unet": "model.diffusion_model.",
    "autoencoder": "first_stage_model.",
    "resampler": "image_proj_model.",
    "image_tower": "embedder.model.visual.",
    "text_tower": "cond_stage_model.model.",
}
IGNORED = (
    # the schedule, which the configuration gives more exactly
    r"betas|scale_arr|alphas_cumprod|alphas_cumprod_prev|posterior_\w+",
    r"sqrt_(recip_|recipm1_)?alphas_cumprod|(sqrt|log)_one_minus_alphas_cumprod",
    # the text side of the model that the image tower was cut from
    r"embedder\.model\.(token_embedding\.weight|positional_embedding|ln_final\..+|text_projection|logit_scale)",
)


def split(weights: Mapping[str, torch.Tensor]) -> dict[Part, dict[str, torch.Tensor]]:
    """Each part's tensors, named without their prefix; a part that the file lacks is empty.

    Raises:
        ValueError: a tensor that belongs to no part and is not one of those known to be of no use.
    """
    rules = [(rf"{prefix.replace('.', '[.]')}(.+)", rf"{part}/\1") for part, prefix in PREFIXES.items()]
    parts: dict[Part, dict[str, torch.Tensor]] = {part: {} for part in PREFIXES}
    named = rename(weights, rules, IGNORED)
    for part, found in parts.items():
        start = f"{part}/"
        found.update((k.removeprefix(start), v) for k, v in named.items() if k.startswith(start))
    return parts
