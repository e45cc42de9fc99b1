"""The video UNet: diffusers' spatial blocks, our temporal layers, one network for every time axis.

Following DynamiCrafter and Vid2World (arXiv 2505.14357): every residual block is followed by a temporal
convolution block and, where attention is on, by spatial and temporal self-attention. Actions enter like noise
levels, through the per-frame embedding that every residual block reads. The latent of the first frame is
concatenated to every frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from v2w_gym.world_model.actions import ActionEncoder, ActionEncoding, Leading, Range, SetPointMap
from v2w_gym.world_model.halves import norms_in_single_precision
from v2w_gym.world_model.temporal import TemporalAttention, TemporalConv, TemporalConvBlock
from v2w_gym.world_model.timeline import TimeAxis
from v2w_gym.world_model.transformer import Context, Scope, TimeMix, over_space, over_time, spread
from v2w_gym.world_model.upsample import Upsample

MAP_CHANNELS = 64  # of the map of the set point, which each block reads in its own way


class PlainAttention(Attention):
    """Self-attention over the pixels of a frame."""

    def forward(self, x: torch.Tensor, context: Context | None, time: TimeAxis) -> torch.Tensor:
        """``((b f), c, h, w)`` to the same; there is no context to read."""
        del context, time
        mixed: torch.Tensor = super().forward(x)
        return mixed


class HeightCausalConv(nn.Conv2d):
    """A 3x3 convolution whose output row i reads rows i-2 .. i, as the last one of the released weights does.

    Its public code makes the axis before the last causal, which is time in every other layer but height here.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``((b f), c, h, w)`` to ``((b f), c', h, w)``."""
        return super().forward(F.pad(x, (1, 1, 2, 0)))


@dataclass(frozen=True)
class Given:
    """What every block reads beside its features.

    Attributes:
        embedding: ``((b f), e)``, noise level and action.
        context: tokens, where there are any.
        time: what each row sees of the others.
        maps: by height and width, where the set point lies, ``((b f), h, w, c)``; empty without set point.
    """

    embedding: torch.Tensor
    context: Context | None
    time: TimeAxis
    maps: Mapping[tuple[int, int], torch.Tensor]


class Block(nn.Module):
    """Residual block, temporal convolutions and, by choice, attention over space and time."""

    def __init__(
        self, inputs: int, outputs: int, *, embedding: int, attention: bool, config: dict[str, Any]
    ) -> None:
        super().__init__()
        groups, scope = config["norm_num_groups"], config["temporal_norm"]
        self.set_point = nn.Linear(MAP_CHANNELS, outputs) if config["set_point"] else None
        if self.set_point is not None:  # begins as if it were not there
            nn.init.zeros_(self.set_point.weight)
            nn.init.zeros_(self.set_point.bias)
        self.resnet = ResnetBlock2D(
            in_channels=inputs,
            out_channels=outputs,
            temb_channels=embedding,
            groups=groups,
            eps=1e-5,
            time_embedding_norm=config["resnet_time_scale_shift"],
        )
        self.temporal_conv = TemporalConvBlock(outputs, config["temporal_conv_layers"], groups, scope)
        self.spatial_attention: nn.Module | None = None
        self.temporal_attention: nn.Module | None = None
        head, context = config["attention_head_dim"], config["cross_attention_dim"]
        if attention and context:
            self.spatial_attention = over_space(outputs, head, groups, context)
            self.temporal_attention = over_time(outputs, head, groups, scope)
        elif attention:
            self.spatial_attention = PlainAttention(
                outputs,
                heads=outputs // head,
                dim_head=head,
                bias=True,
                norm_num_groups=groups,
                residual_connection=True,
                processor=AttnProcessor(),  # on 16 pixels faster than the fused kernel, above all backward
            )
            self.temporal_attention = TemporalAttention(outputs, head, config["window"], groups, scope)

    def forward(self, x: torch.Tensor, given: Given) -> torch.Tensor:
        """``((b f), c, h, w)`` to ``((b f), c', h, w)``."""
        context, time = given.context, given.time
        x = self.resnet(x, given.embedding)
        if self.set_point is not None:
            size = (x.shape[-2], x.shape[-1])
            x = x + self.set_point(given.maps[size]).permute(0, 3, 1, 2)
        x = self.temporal_conv(x, time)
        if self.spatial_attention is not None and self.temporal_attention is not None:
            x = self.temporal_attention(self.spatial_attention(x, context, time), context, time)
        return x


class VideoUNet(ModelMixin, ConfigMixin):
    """Predicts ``v`` for every frame from noisy latents, per-frame noise levels and per-frame actions.

    Args:
        latent_channels: channels of a latent, in and out.
        action_dim: components of an action; 0 makes the action-free video model.
        block_out_channels: width of each level, finest first; each further level halves the resolution.
        attention_levels: per level, whether its blocks attend over space and time. The middle always does.
        layers_per_block: blocks of a level on the way down; one more on the way up.
        temporal_conv_layers: temporal convolutions after each residual block.
        attention_head_dim: channels of an attention head.
        norm_num_groups: groups of every GroupNorm.
        resnet_time_scale_shift: how a residual block reads the embedding, "default" (added) or "scale_shift".
        window: frames that temporal attention sees, the newest included.
        causal: whether frames see only the past. Part of the config because weights fit one or the other.
        temporal_norm: "frame", statistics per frame; "clip", over all frames of a pass, which is not causal
            and cannot be cached exactly, but is what the released weights were trained with.
        concat_first_frame: whether the latent of the first frame is concatenated to every frame.
        action_encoding: "mlp", or "table", a learned row per component of a multi-hot action.
        set_point: ranges of the set point that actions add up to, one per component; see ``actions.Leading``.
        cross_attention_dim: width of text and image tokens; above 0, attention is done by transformer blocks
            that read them. 0 is attention alone.
        text_tokens: how many of the tokens are text.
        image_tokens_per_frame: see ``transformer.spread``.
        initial_attention_heads: of a transformer over time right after the first convolution; 0 is none.
        fps_condition: whether frames per second enter like noise levels.
        default_fps: where none are given.
        height_causal_out: see ``HeightCausalConv``.

    Raises:
        ValueError: settings that do not fit together.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 8,
        action_dim: int = 4,
        block_out_channels: Sequence[int] = (64, 160),
        attention_levels: Sequence[bool] = (False, True),
        layers_per_block: int = 1,
        temporal_conv_layers: int = 2,
        attention_head_dim: int = 32,
        norm_num_groups: int = 16,
        resnet_time_scale_shift: str = "scale_shift",
        window: int = 16,
        causal: bool = True,
        temporal_norm: Scope = "frame",
        concat_first_frame: bool = True,
        action_encoding: ActionEncoding = "mlp",
        set_point: Sequence[Range] | None = None,
        cross_attention_dim: int = 0,
        text_tokens: int = 77,
        image_tokens_per_frame: int = 16,
        initial_attention_heads: int = 0,
        fps_condition: bool = False,
        default_fps: int = 3,
        height_causal_out: bool = False,
    ) -> None:
        super().__init__()
        if temporal_norm not in ("frame", "clip"):
            raise ValueError(f'temporal_norm must be "frame" or "clip", got {temporal_norm!r}')
        if len(attention_levels) != len(block_out_channels):
            raise ValueError(
                f"attention_levels needs {len(block_out_channels)} entries, got {attention_levels}"
            )
        channels, sizes = list(block_out_channels), dict(self.config)
        embedding = 4 * channels[0]
        self.time_features = Timesteps(channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(channels[0], embedding)
        self.fps_embedding = TimestepEmbedding(channels[0], embedding) if fps_condition else None
        self.action_encoder = (
            ActionEncoder(action_dim, channels[0], embedding, action_encoding) if action_dim else None
        )
        self.leading = Leading(action_dim, set_point)
        self.set_point_map = SetPointMap(self.leading, MAP_CHANNELS) if set_point else None
        self.conv_in = nn.Conv2d(
            latent_channels * (2 if concat_first_frame else 1), channels[0], 3, padding=1
        )
        self.initial_attention = (
            over_time(
                channels[0], attention_head_dim, norm_num_groups, temporal_norm, heads=initial_attention_heads
            )
            if initial_attention_heads
            else None
        )

        def block(inputs: int, outputs: int, attention: bool) -> Block:
            return Block(inputs, outputs, embedding=embedding, attention=attention, config=sizes)

        width, skips = channels[0], [channels[0]]
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        for level, outputs in enumerate(channels):
            blocks = nn.ModuleList()
            for _ in range(layers_per_block):
                blocks.append(block(width, outputs, attention_levels[level]))
                width = outputs
                skips.append(width)
            self.down.append(blocks)
            if level < len(channels) - 1:
                self.downsample.append(Downsample2D(width, use_conv=True, name="op"))
                skips.append(width)
        self.middle = nn.ModuleList([block(width, width, True), block(width, width, False)])
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level, outputs in reversed(list(enumerate(channels))):
            blocks = nn.ModuleList()
            for _ in range(layers_per_block + 1):
                blocks.append(block(width + skips.pop(), outputs, attention_levels[level]))
                width = outputs
            self.up.append(blocks)
            if level > 0:
                self.upsample.append(Upsample(nn.Conv2d(width, width, 3, padding=1)))
        self.norm_out = nn.GroupNorm(norm_num_groups, width, eps=1e-5)
        self.conv_out = (
            HeightCausalConv(width, latent_channels, 3)
            if height_causal_out
            else nn.Conv2d(width, latent_channels, 3, padding=1)
        )
        for name, layer in self.named_modules():
            if isinstance(layer, TemporalConv | TemporalAttention | TimeMix):
                layer.key = name.replace(".", "/")
        norms_in_single_precision(self)

    def temporal_layers(self) -> dict[str, TemporalConv | TemporalAttention | TimeMix]:
        """Every temporal layer by its key, in the order of the network."""
        kinds = TemporalConv | TemporalAttention | TimeMix
        return {m.key: m for m in self.modules() if isinstance(m, kinds)}

    def layer_sizes(self, height: int, width: int) -> dict[str, tuple[int, int, int]]:
        """Channels, height and width that each temporal layer sees for latents of the given size."""
        sizes: dict[str, tuple[int, int, int]] = {}
        levels = len(self.config.block_out_channels)
        for key, layer in self.temporal_layers().items():
            part, *place = key.split("/")
            depth = {
                "down": lambda i: int(i),
                "up": lambda i: levels - 1 - int(i),
                "middle": lambda _: levels - 1,
                "initial_attention": lambda _: 0,
            }
            level = depth[part](place[0])
            channels = layer.weight.shape[0] if isinstance(layer, TemporalConv) else layer.to_out.out_features
            sizes[key] = (channels, height >> level, width >> level)
        return sizes

    def forward(
        self,
        latents: torch.Tensor,
        noise_level: torch.Tensor,
        actions: torch.Tensor | None,
        action_kept: torch.Tensor | None,
        first: torch.Tensor,
        time: TimeAxis,
        tokens: torch.Tensor | None = None,
        fps: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict ``v``.

        Args:
            latents: ``(b, f, c, h, w)`` noisy latents.
            noise_level: ``(b, f)`` diffusion timesteps.
            actions: ``(b, f, a + k)``, at row i what leads *to* frame i, as ``leading`` gives it; None for an
                action-free model.
            action_kept: ``(b, f)`` bool, False drops a frame's action; None keeps all.
            first: ``(b, c, h, w)`` clean latent of the episode's first frame, or one for each row,
                ``(b, f, c, h, w)``.
            time: what each row sees of the others.
            tokens: ``(b, n, d)`` or, for each row, ``(b, f, n, d)``, text then image, where the model reads
                them.
            fps: ``(b,)``, where the model reads it; None takes the default.

        Returns:
            ``(b, f, c, h, w)``.
        """
        batch, frames = latents.shape[:2]
        embedding = self._embed(self.time_embedding, noise_level.flatten(), latents.dtype)
        if self.fps_embedding is not None:
            fps = noise_level.new_full((batch,), self.config.default_fps) if fps is None else fps
            shared = self._embed(self.fps_embedding, fps, latents.dtype)
            embedding = embedding + shared.repeat_interleave(frames, dim=0)
        if self.action_encoder is not None:
            if actions is None:
                raise ValueError("this model is conditioned on actions; got None")
            if actions.shape[-1] != self.leading.width:
                raise ValueError(
                    f"what leads to a frame is {self.leading.width} numbers here, got {actions.shape[-1]}; "
                    "see actions.Leading.along"
                )
            action = actions[..., : self.leading.action_dim]
            embedding = embedding + self.action_encoder(action, action_kept).flatten(0, 1)
        x = latents
        if self.config.concat_first_frame:
            given = first if first.ndim == x.ndim else first.unsqueeze(1)
            x = torch.cat([x, given.expand_as(x)], dim=2)
        x = rearrange(x, "b f c h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        context = None
        if tokens is not None and self.config.cross_attention_dim:
            context = spread(tokens, frames, self.config.text_tokens, self.config.image_tokens_per_frame)
        maps = {}
        if self.set_point_map is not None:
            height, width = x.shape[-2:]
            for level in range(len(self.config.block_out_channels)):
                size = (height >> level, width >> level)
                maps[size] = self.set_point_map(actions, action_kept, size)
        x = self._run(self.conv_in(x), Given(embedding, context, time, maps))
        v: torch.Tensor = self.conv_out(F.silu(self.norm_out(x))).unflatten(0, (batch, frames))
        return v

    def _embed(self, mlp: nn.Module, value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        embedding: torch.Tensor = mlp(self.time_features(value).to(dtype))
        return embedding

    def _run(self, x: torch.Tensor, given: Given) -> torch.Tensor:
        if self.initial_attention is not None:
            x = self.initial_attention(x, given.context, given.time)
        skips = [x]
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, given)
                skips.append(x)
            if level < len(self.downsample):
                x = self.downsample[level](x)
                skips.append(x)
        for block in self.middle:
            x = block(x, given)
        for level, blocks in enumerate(self.up):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(torch.cat([x, skips.pop()], dim=1), given)
            if level < len(self.upsample):
                x = self.upsample[level](x)
        return x
