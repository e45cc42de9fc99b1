"""Doubling the resolution: nearest neighbours and a 3x3 convolution, as one transposed convolution.

After doubling, several of the nine pixels that the convolution reads are copies of one. Adding up the weights
that meet the same pixel leaves 16 products per pixel of the input where there were 36, and no doubled input
is written. The result is the same but for rounding; weights in half precision, whose sums would be rounded
anew, are used as they are.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional


def spread(weight: torch.Tensor) -> torch.Tensor:
    """Weights ``(o, i, 3, 3)`` to those of a transposed convolution of stride 2, ``(i, o, 4, 4)``."""

    def along(x: torch.Tensor, dim: int) -> torch.Tensor:
        first, middle, last = x.unbind(dim)
        return torch.stack([last, middle + last, first + middle, first], dim)

    return along(along(weight, 2), 3).transpose(0, 1)


class Upsample(nn.Module):
    """Names and meaning of the weights are those of diffusers' ``Upsample2D``.

    Args:
        conv: from as many channels to as many, kernel 3, padding 1, with a bias.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self._kernel: torch.Tensor | None = None
        self._made_from: tuple[torch.Tensor, int] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(b, c, h, w)`` to ``(b, c, 2 h, 2 w)``."""
        if self.conv.weight.dtype != torch.float32:
            return self.one_after_the_other(x)
        return functional.conv_transpose2d(x, self._spread(), self.conv.bias, stride=2, padding=1)

    def one_after_the_other(self, x: torch.Tensor) -> torch.Tensor:
        """The same, as it is defined."""
        result: torch.Tensor = self.conv(functional.interpolate(x, scale_factor=2.0))
        return result

    def train(self, mode: bool = True) -> Upsample:
        """As of any module; for evaluation what is kept is made at once, before memory is measured."""
        super().train(mode)
        if not mode and self.conv.weight.dtype == torch.float32:
            with torch.no_grad():
                self._spread()
        return self

    def _spread(self) -> torch.Tensor:
        """Kept from call to call while the weights stay: for few frames it costs as much as it saves."""
        weight = self.conv.weight
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return spread(weight)
        if self._kernel is None or not self._stays(weight):
            self._kernel = spread(weight).contiguous(memory_format=torch.channels_last)
            # holding on to the memory of the weights keeps others from being put at its address
            self._made_from = weight.detach(), weight._version
        return self._kernel

    def _stays(self, weight: torch.Tensor) -> bool:
        assert self._made_from is not None
        source, version = self._made_from
        return source.data_ptr() == weight.data_ptr() and version == weight._version


def upsample_at_once(vae: AutoencoderKL) -> None:
    """Have the decoder double its resolution so; names and values of its weights stay."""
    for block in vae.decoder.up_blocks:
        for i, layer in enumerate(block.upsamplers or ()):
            block.upsamplers[i] = Upsample(layer.conv)
