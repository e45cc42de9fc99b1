"""The denoising network in the precision that was asked for: float32 in and out, whatever runs inside."""

from __future__ import annotations

import torch

from v2w_gym.world_model.timeline import TimeAxis
from v2w_gym.world_model.unet import VideoUNet


class Network:
    """Calls ``unet``.

    Args:
        unet: its weights' dtype is the dtype that it runs in.
        precision: "bf16" runs float32 weights under autocast.
    """

    def __init__(self, unet: VideoUNet, precision: str = "fp32", compile: bool = False) -> None:
        self.unet, self.autocast = unet, precision == "bf16"

    def __call__(
        self,
        z: torch.Tensor,
        levels: torch.Tensor,
        actions: torch.Tensor,
        kept: torch.Tensor | None,
        first: torch.Tensor,
        time: TimeAxis,
        tokens: torch.Tensor | None,
    ) -> torch.Tensor:
        """See ``VideoUNet.forward``."""
        dtype = self.unet.dtype
        with torch.autocast(z.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            v: torch.Tensor = self.unet(
                z.to(dtype),
                levels,
                actions.to(dtype),
                kept,
                first.to(dtype),
                time,
                None if tokens is None else tokens.to(dtype),
            )
        return v.float()
