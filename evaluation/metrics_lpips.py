"""LPIPS (Zhang et al. 2018), version 0.1, from the files its authors and torchvision publish.

No weights come with this package, and none are fetched. Two files are needed: the ImageNet features of
AlexNet or VGG16 as torchvision saves them (keys ``features.0.weight`` and so on), and the linear heads that
the authors fitted (keys ``lin0.model.1.weight`` and so on). Each is a torch pickle or a safetensors file.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn

Weights = dict[str, torch.Tensor]
Layer = tuple[str, int]  # "conv" with its kernel's side, "pool", or "tap": the activations that are compared

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of frames in -1..1
_CHUNK = 16  # frames at once


@dataclass(frozen=True)
class _Backbone:
    """How a network's convolutions follow each other.

    Attributes:
        blocks: indices of the convolutions in torchvision's ``features`` up to each tap.
        strides: of each convolution.
        paddings: of each convolution.
        pool: side of the pooling window, stride 2.
        pooled: whether a pooling stands before each block.
    """

    blocks: tuple[tuple[int, ...], ...]
    strides: Mapping[int, int]
    paddings: Mapping[int, int]
    pool: int
    pooled: tuple[bool, ...]


_BACKBONES = {
    "AlexNet": _Backbone(
        ((0,), (3,), (6,), (8,), (10,)), {0: 4}, {0: 2, 3: 2}, 3, (False, True, True, False, False)
    ),
    "VGG16": _Backbone(
        ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)), {}, {}, 2, (False, True, True, True, True)
    ),
}


class Lpips(nn.Module):
    """The distance itself; made by :func:`load_lpips`.

    Args:
        network: ``"AlexNet"`` or ``"VGG16"``.
        features: tensors ``features.N.weight`` and ``features.N.bias``.
        heads: for each tap, weights ``(1, c, 1, 1)``.
    """

    def __init__(self, network: str, features: Weights, heads: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.network = network
        self._backbone = _BACKBONES[network]
        self._features = {name: value.float() for name, value in features.items()}
        self._heads = [head.float() for head in heads]

    @torch.no_grad()
    def __call__(self, a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Distance ``(n,)`` of frames ``(n, h, w, 3)`` uint8; 0 for equal frames, about 0.7 for unlike ones.

        Raises:
            ValueError: frames of different sizes, or too small for the network.
        """
        if a.shape != b.shape or a.ndim != 4 or a.dtype != np.uint8 or b.dtype != np.uint8:
            raise ValueError(
                f"LPIPS needs uint8 (n, h, w, 3) twice, got {a.dtype} {a.shape} and {b.dtype} {b.shape}"
            )
        if min(a.shape[1:3]) < 32:
            raise ValueError(f"LPIPS needs frames of at least 32x32 pixels, got {a.shape[1:3]}")
        parts = [self._distance(a[i : i + _CHUNK], b[i : i + _CHUNK]) for i in range(0, len(a), _CHUNK)]
        return torch.cat(parts).double().numpy() if parts else np.zeros(0)

    def _distance(self, a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> torch.Tensor:
        total = torch.zeros(len(a))
        for head, x, y in zip(self._heads, self._taps(a), self._taps(b), strict=True):
            total += ((_unit(x) - _unit(y)).square() * head).sum(dim=1).mean(dim=(1, 2))
        return total

    def _taps(self, frames: npt.NDArray[np.uint8]) -> list[torch.Tensor]:
        x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        x = (x - torch.tensor(_SHIFT).view(3, 1, 1)) / torch.tensor(_SCALE).view(3, 1, 1)
        backbone, taps = self._backbone, []
        for block, pooled in zip(backbone.blocks, backbone.pooled, strict=True):
            x = nn.functional.max_pool2d(x, backbone.pool, 2) if pooled else x
            for i in block:
                weight, bias = self._features[f"features.{i}.weight"], self._features[f"features.{i}.bias"]
                x = nn.functional.conv2d(
                    x, weight, bias, backbone.strides.get(i, 1), backbone.paddings.get(i, 1)
                ).relu()
            taps.append(x)
        return taps


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Features ``(b, c, h, w)`` of length 1 at every place."""
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def load_lpips(features: str | Path, heads: str | Path) -> Lpips:
    """Read LPIPS from its two files.

    Args:
        features: e.g. ``alexnet-owt-7be5be79.pth`` or ``vgg16-397923af.pth`` of torchvision.
        heads: e.g. ``alex.pth`` or ``vgg.pth`` of the authors' ``lpips/weights/v0.1``.

    Raises:
        FileNotFoundError: a file is missing; says where such files come from.
        ValueError: a file that is damaged, of another format, or does not fit the other one.
    """
    of_features = {k: v for k, v in _read(features).items() if k.startswith("features.")}
    fitting = [
        name
        for name, b in _BACKBONES.items()
        if set(of_features) == set(_names(b)) and _shapes_fit(of_features, b)
    ]
    if not fitting:
        raise ValueError(
            f"{features} holds neither AlexNet's nor VGG16's features as torchvision names them "
            f"(features.0.weight, features.0.bias, ...); it has {', '.join(list(of_features)[:4]) or 'none'}"
        )
    found, network = _read(heads), fitting[0]
    widths = [len(of_features[f"features.{block[-1]}.bias"]) for block in _BACKBONES[network].blocks]
    keys = [f"lin{i}.model.1.weight" for i in range(len(widths))]
    shapes = {key: tuple(found[key].shape) for key in keys if key in found}
    if shapes != {key: (1, width, 1, 1) for key, width in zip(keys, widths, strict=True)}:
        raise ValueError(
            f"{heads} are no LPIPS heads for {network}: expected {keys[0]} to {keys[-1]} with "
            f"{widths} channels, got {shapes or list(found)[:4]}"
        )
    return Lpips(network, of_features, [found[key] for key in keys])


def _names(backbone: _Backbone) -> list[str]:
    convolutions = [i for block in backbone.blocks for i in block]
    return [f"features.{i}.{kind}" for i in convolutions for kind in ("weight", "bias")]


def _shapes_fit(features: Weights, backbone: _Backbone) -> bool:
    """Whether each convolution reads what the one before it writes, and its side is the network's."""
    channels, sides = 3, {0: 11, 3: 5} if backbone.strides else {}
    for i in (i for block in backbone.blocks for i in block):
        weight, bias = features[f"features.{i}.weight"], features[f"features.{i}.bias"]
        side = sides.get(i, 3)
        if weight.shape[1:] != (channels, side, side) or bias.shape != weight.shape[:1]:
            return False
        channels = len(weight)
    return True


def _read(path: str | Path) -> Weights:
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"no LPIPS weights at {path}. It takes two files: torchvision's ImageNet weights of AlexNet or "
            "VGG16, and the heads (weights/v0.1/alex.pth or vgg.pth) from the authors' package 'lpips'; "
            "without them LPIPS is left out, and nothing else is reported in its name"
        )
    try:
        loaded = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
        raise ValueError(f"{path} is damaged or holds something else than weights ({error})") from error
    if not isinstance(loaded, Mapping) or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise ValueError(f"{path} must hold a mapping from names to tensors, got {type(loaded).__name__}")
    return dict(loaded)
