"""The layers of a checkpoint under their released names: shapes and first values, no computation.

Good for writing checkpoints of any size in the released layout; nothing here reads the tables of names that
conversion goes by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from v2w_gym.world_model.released.empty_caption import TextTowerConfig
from v2w_gym.world_model.released.image_tower import ImageTowerConfig

Named = nn.ModuleDict


def unet(params: Mapping[str, Any]) -> nn.Module:
    """Part ``model.diffusion_model``; ``params`` is ``unet_config.params`` of the yaml."""
    base, inputs = params["model_channels"], params["in_channels"]
    emb, context, head = 4 * base, params["context_dim"], params["num_head_channels"]
    actions = params["action_dim"]
    widths = [base * factor for factor in params["channel_mult"]]
    attends = [2**level in params["attention_resolutions"] for level in range(len(widths))]

    def block(i: int, o: int, attention: bool) -> list[nn.Module]:
        if not attention:
            return [_residual(i, o, emb)]
        return [_residual(i, o, emb), _spatial(o, head, context), _temporal(o, o)]

    width, skips = base, [base]
    down: list[nn.Module] = [nn.Sequential(nn.Conv2d(inputs, base, 3))]
    for level, outputs in enumerate(widths):
        for _ in range(params["num_res_blocks"]):
            down.append(nn.Sequential(*block(width, outputs, attends[level])))
            width = outputs
            skips.append(width)
        if level < len(widths) - 1:
            down.append(nn.Sequential(Named({"op": nn.Conv2d(width, width, 3)})))
            skips.append(width)
    middle = nn.Sequential(*block(width, width, True), _residual(width, width, emb))
    up: list[nn.Module] = []
    for level, outputs in reversed(list(enumerate(widths))):
        for place in range(params["num_res_blocks"] + 1):
            layers = block(width + skips.pop(), outputs, attends[level])
            width = outputs
            if level and place == params["num_res_blocks"]:
                layers.append(Named({"conv": nn.Conv2d(width, width, 3)}))
            up.append(nn.Sequential(*layers))
    parts = {
        "time_embed": _mlp(base, emb),
        "fps_embedding": _mlp(base, emb),
        "input_blocks": nn.ModuleList(down),
        "init_attn": nn.Sequential(_temporal(base, 8 * head, linear=False)),
        "middle_block": middle,
        "output_blocks": nn.ModuleList(up),
        "out": nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), Named({"conv2d": nn.Conv2d(width, params["out_channels"], 3)})
        ),
    }
    if actions == 51:
        parts["action_emb_preprocess"] = nn.Embedding(actions, base)
        parts["action_emb_proj"] = _mlp(base, emb)
    else:
        parts["action_emb_proj"] = nn.Sequential(nn.Linear(actions, base), nn.SiLU(), *_mlp(base, emb))
    return Named(parts)


def _mlp(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out))


def _residual(i: int, o: int, emb: int) -> nn.Module:
    def temporal(*dropout: nn.Module) -> nn.Module:
        conv = Named({"conv3d": nn.Conv3d(o, o, (3, 1, 1))})
        return nn.Sequential(nn.GroupNorm(32, o), nn.SiLU(), *dropout, conv)

    return Named(
        {
            "in_layers": nn.Sequential(nn.GroupNorm(32, i), nn.SiLU(), nn.Conv2d(i, o, 3)),
            "emb_layers": nn.Sequential(nn.SiLU(), nn.Linear(emb, o)),
            "out_layers": nn.Sequential(nn.GroupNorm(32, o), nn.SiLU(), nn.Dropout(), nn.Conv2d(o, o, 3)),
            "skip_connection": nn.Identity() if i == o else nn.Conv2d(i, o, 1),
            "temopral_conv": Named(  # so spelt there
                {"conv1": temporal(), **{f"conv{n}": temporal(nn.Dropout()) for n in (2, 3, 4)}}
            ),
        }
    )


def _attention(width: int, inner: int, context: int, image: bool = False) -> nn.Module:
    keys = ("to_k", "to_v", "to_k_ip", "to_v_ip") if image else ("to_k", "to_v")
    layers: dict[str, nn.Module] = {name: nn.Linear(context, inner, bias=False) for name in keys}
    out = nn.Sequential(nn.Linear(inner, width))
    return Named({"to_q": nn.Linear(width, inner, bias=False), **layers, "to_out": out})


def _transformer(width: int, inner: int, attention: Sequence[nn.Module], linear: bool) -> nn.Module:
    gate = Named({"proj": nn.Linear(inner, 8 * inner)})
    norms = {f"norm{n}": nn.LayerNorm(inner) for n in (1, 2, 3)}
    net = nn.Sequential(gate, nn.Dropout(), nn.Linear(4 * inner, inner))
    block = Named({"attn1": attention[0], "attn2": attention[1], "ff": Named({"net": net}), **norms})

    def project(a: int, b: int) -> nn.Module:
        return nn.Linear(a, b) if linear else nn.Conv1d(a, b, 1)

    return Named(
        {
            "norm": nn.GroupNorm(32, width),
            "proj_in": project(width, inner),
            "transformer_blocks": nn.ModuleList([block]),
            "proj_out": project(inner, width),
        }
    )


def _spatial(width: int, head: int, context: int) -> nn.Module:
    del head  # heads times their width is the width
    crossed = _attention(width, width, context, image=True)
    return _transformer(width, width, [_attention(width, width, width), crossed], linear=True)


def _temporal(width: int, inner: int, linear: bool = True) -> nn.Module:
    return _transformer(width, inner, [_attention(inner, inner, inner) for _ in range(2)], linear)


def autoencoder(params: Mapping[str, Any]) -> nn.Module:
    """Part ``first_stage_model``; ``params`` is ``first_stage_config.params`` of the yaml."""
    config, latent = params["ddconfig"], params["embed_dim"]
    widths = [config["ch"] * factor for factor in config["ch_mult"]]
    first, last, blocks = widths[0], widths[-1], config["num_res_blocks"]
    down, width = [], first
    for level, outputs in enumerate(widths):
        layers: dict[str, nn.Module] = {"block": _blocks(width, outputs, blocks), "attn": nn.ModuleList()}
        if level < len(widths) - 1:
            layers["downsample"] = Named({"conv": nn.Conv2d(outputs, outputs, 3)})
        down.append(Named(layers))
        width = outputs
    up: list[nn.Module] = []
    for level, outputs in reversed(list(enumerate(widths))):
        layers = {"block": _blocks(width, outputs, blocks + 1), "attn": nn.ModuleList()}
        if level:
            layers["upsample"] = Named({"conv": nn.Conv2d(outputs, outputs, 3)})
        up.insert(0, Named(layers))
        width = outputs
    encoder = {"conv_in": nn.Conv2d(config["in_channels"], first, 3), "down": nn.ModuleList(down)}
    decoder = {"conv_in": nn.Conv2d(latent, last, 3), "up": nn.ModuleList(up)}
    return Named(
        {
            "encoder": Named(encoder | _middle(last) | _end(last, 2 * config["z_channels"])),
            "decoder": Named(decoder | _middle(last) | _end(first, config["out_ch"])),
            "quant_conv": nn.Conv2d(2 * config["z_channels"], 2 * latent, 1),
            "post_quant_conv": nn.Conv2d(latent, config["z_channels"], 1),
        }
    )


def _blocks(i: int, o: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(_image_block(i if n == 0 else o, o) for n in range(count))


def _image_block(i: int, o: int) -> nn.Module:
    layers: dict[str, nn.Module] = {
        "norm1": nn.GroupNorm(32, i),
        "conv1": nn.Conv2d(i, o, 3),
        "norm2": nn.GroupNorm(32, o),
        "conv2": nn.Conv2d(o, o, 3),
    }
    return Named(layers if i == o else {**layers, "nin_shortcut": nn.Conv2d(i, o, 1)})


def _middle(width: int) -> dict[str, nn.Module]:
    attention = {name: nn.Conv2d(width, width, 1) for name in ("q", "k", "v", "proj_out")}
    attended = Named({"norm": nn.GroupNorm(32, width), **attention})
    ends = {f"block_{n}": _image_block(width, width) for n in (1, 2)}
    return {"mid": Named({"attn_1": attended, **ends})}


def _end(width: int, out: int) -> dict[str, nn.Module]:
    return {"norm_out": nn.GroupNorm(32, width), "conv_out": nn.Conv2d(width, out, 3)}


class _Bare(nn.Module):
    """Layers beside parameters that belong to none."""

    def __init__(self, layers: Mapping[str, nn.Module], shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(tuple(shape)) * 0.02))


def resampler(params: Mapping[str, Any]) -> nn.Module:
    """Part ``image_proj_model``; ``params`` is ``image_proj_stage_config.params`` of the yaml."""
    width, inner = params["dim"], params["dim_head"] * params["heads"]
    hidden = width * params["ff_mult"]

    def layer() -> nn.Module:
        linear = {"to_q": (width, inner), "to_kv": (width, 2 * inner), "to_out": (inner, width)}
        attention = Named(
            {name: nn.Linear(*size, bias=False) for name, size in linear.items()}
            | {name: nn.LayerNorm(width) for name in ("norm1", "norm2")}
        )
        up, down = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)
        return nn.ModuleList([attention, nn.Sequential(nn.LayerNorm(width), up, nn.GELU(), down)])

    layers = {
        "proj_in": nn.Linear(params["embedding_dim"], width),
        "proj_out": nn.Linear(width, params["output_dim"]),
        "norm_out": nn.LayerNorm(params["output_dim"]),
        "layers": nn.ModuleList(layer() for _ in range(params["depth"])),
    }
    return _Bare(layers, {"latents": (1, params["num_queries"] * params["video_length"], width)})


def _tower_layers(width: int, count: int, ratio: int) -> nn.Module:
    def layer() -> nn.Module:
        mlp = {"c_fc": nn.Linear(width, ratio * width), "c_proj": nn.Linear(ratio * width, width)}
        parts: dict[str, nn.Module] = {"attn": nn.MultiheadAttention(width, 1), "mlp": Named(mlp)}
        return Named(parts | {name: nn.LayerNorm(width) for name in ("ln_1", "ln_2")})

    return Named({"resblocks": nn.ModuleList(layer() for _ in range(count))})


def image_tower(config: ImageTowerConfig) -> nn.Module:
    """Part ``embedder.model.visual``."""
    width, patches = config.width, (config.image_size // config.patch_size) ** 2
    layers = {
        "conv1": nn.Conv2d(3, width, config.patch_size, bias=False),
        "ln_pre": nn.LayerNorm(width),
        "transformer": _tower_layers(width, config.layers, config.mlp_ratio),
        "ln_post": nn.LayerNorm(width),
    }
    shapes = {
        "class_embedding": (width,),
        "positional_embedding": (patches + 1, width),
        "proj": (width, width),
    }
    return _Bare(layers, shapes)


def text_tower(config: TextTowerConfig) -> nn.Module:
    """Part ``cond_stage_model.model``."""
    width = config.width
    layers = {
        "token_embedding": nn.Embedding(config.vocabulary, width),
        "transformer": _tower_layers(width, config.layers, config.mlp_ratio),
        "ln_final": nn.LayerNorm(width),
    }
    shapes = {
        "positional_embedding": (config.context_length, width),
        "text_projection": (width, width),
        "logit_scale": (),
    }
    return _Bare(layers, shapes)
