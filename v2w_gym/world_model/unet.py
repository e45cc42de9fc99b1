"""The video UNet: diffusers' spatial blocks, our temporal layers, one network for every time axis.

Following DynamiCrafter and Vid2World (arXiv 2505.14357): every residual block is followed by a temporal
convolution block and, where attention is on, by spatial and temporal self-attention. Actions enter like noise
levels, through the per-frame embedding that every residual block reads. The latent of the first frame is
concatenated to every frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from v2w_gym.world_model.actions import ActionEncoder
from v2w_gym.world_model.temporal import TemporalAttention, TemporalConv, TemporalConvBlock
from v2w_gym.world_model.timeline import TimeAxis


class Block(nn.Module):
    """Residual block, temporal convolutions and, by choice, spatial and temporal attention."""

    def __init__(
        self, inputs: int, outputs: int, *, embedding: int, attention: bool, config: dict[str, Any]
    ) -> None:
        super().__init__()
        groups = config["norm_num_groups"]
        self.resnet = ResnetBlock2D(
            in_channels=inputs,
            out_channels=outputs,
            temb_channels=embedding,
            groups=groups,
            eps=1e-5,
            time_embedding_norm=config["resnet_time_scale_shift"],
        )
        self.temporal_conv = TemporalConvBlock(outputs, config["temporal_conv_layers"], groups)
        self.spatial_attention: nn.Module | None = None
        self.temporal_attention: TemporalAttention | None = None
        if attention:
            head = config["attention_head_dim"]
            self.spatial_attention = Attention(
                outputs,
                heads=outputs // head,
                dim_head=head,
                bias=True,
                norm_num_groups=groups,
                residual_connection=True,
                processor=AttnProcessor(),  # on 16 pixels faster than the fused kernel, above all backward
            )
            self.temporal_attention = TemporalAttention(outputs, head, config["window"], groups)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor, time: TimeAxis) -> torch.Tensor:
        """``((b f), c, h, w)`` to ``((b f), c', h, w)``."""
        x = self.temporal_conv(self.resnet(x, embedding), time)
        if self.spatial_attention is not None and self.temporal_attention is not None:
            x = self.temporal_attention(self.spatial_attention(x), time)
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
        temporal_norm: "frame", statistics per frame.
        concat_first_frame: whether the latent of the first frame is concatenated to every frame.

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
        temporal_norm: str = "frame",
        concat_first_frame: bool = True,
    ) -> None:
        super().__init__()
        if temporal_norm != "frame":
            raise ValueError(f'temporal_norm must be "frame", got {temporal_norm!r}')
        if len(attention_levels) != len(block_out_channels):
            raise ValueError(
                f"attention_levels needs {len(block_out_channels)} entries, got {attention_levels}"
            )
        channels, sizes = list(block_out_channels), dict(self.config)
        embedding = 4 * channels[0]
        self.time_features = Timesteps(channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(channels[0], embedding)
        self.action_encoder = ActionEncoder(action_dim, channels[0], embedding) if action_dim else None
        self.conv_in = nn.Conv2d(
            latent_channels * (2 if concat_first_frame else 1), channels[0], 3, padding=1
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
                self.upsample.append(Upsample2D(width, use_conv=True))
        self.norm_out = nn.GroupNorm(norm_num_groups, width, eps=1e-5)
        self.conv_out = nn.Conv2d(width, latent_channels, 3, padding=1)
        for name, layer in self.named_modules():
            if isinstance(layer, TemporalConv | TemporalAttention):
                layer.key = name.replace(".", "/")

    def temporal_layers(self) -> dict[str, TemporalConv | TemporalAttention]:
        """Every temporal layer by its key, in the order of the network."""
        return {m.key: m for m in self.modules() if isinstance(m, TemporalConv | TemporalAttention)}

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
    ) -> torch.Tensor:
        """Predict ``v``.

        Args:
            latents: ``(b, f, c, h, w)`` noisy latents.
            noise_level: ``(b, f)`` diffusion timesteps.
            actions: ``(b, f, a)``, at row i the action that leads *to* frame i; None for an action-free
                model.
            action_kept: ``(b, f)`` bool, False drops a frame's action; None keeps all.
            first: ``(b, c, h, w)`` clean latent of the episode's first frame.
            time: what each row sees of the others.

        Returns:
            ``(b, f, c, h, w)``.
        """
        batch, frames = latents.shape[:2]
        embedding = self.time_embedding(self.time_features(noise_level.flatten()).to(latents.dtype))
        if self.action_encoder is not None:
            if actions is None:
                raise ValueError("this model is conditioned on actions; got None")
            embedding = embedding + self.action_encoder(actions, action_kept).flatten(0, 1)
        x = latents
        if self.config.concat_first_frame:
            x = torch.cat([x, first.unsqueeze(1).expand_as(x)], dim=2)
        x = rearrange(x, "b f c h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        x = self._run(self.conv_in(x), embedding, time)
        v: torch.Tensor = self.conv_out(F.silu(self.norm_out(x))).unflatten(0, (batch, frames))
        return v

    def _run(self, x: torch.Tensor, embedding: torch.Tensor, time: TimeAxis) -> torch.Tensor:
        skips = [x]
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, embedding, time)
                skips.append(x)
            if level < len(self.downsample):
                x = self.downsample[level](x)
                skips.append(x)
        for block in self.middle:
            x = block(x, embedding, time)
        for level, blocks in enumerate(self.up):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(torch.cat([x, skips.pop()], dim=1), embedding, time)
            if level < len(self.upsample):
                x = self.upsample[level](x)
        return x
