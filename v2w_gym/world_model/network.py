"""The denoising network as it was asked for, in its precision and compiled or not: float32 in and out."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable

import torch

from v2w_gym.world_model.halves import Precision, running_in
from v2w_gym.world_model.timeline import TimeAxis
from v2w_gym.world_model.unet import VideoUNet


class Network:
    """Calls ``unet``.

    Args:
        unet: its weights' dtype is the dtype that it runs in.
        precision: "bf16" runs float32 weights under autocast.
        compile: whether ``torch.compile`` translates it at the first call, and again for every new number of
            slots or of frames. PyTorch does so eight times; further shapes run uncompiled. On a CPU the
            weights become constants of what is compiled, so later changes to them have no effect. On a card
            CUDA graphs are asked for, which PyTorch leaves out where a cache is written in place; that was
            never run here, for want of a card.

    Raises:
        RuntimeError: ``compile`` without a C++ compiler.
    """

    def __init__(self, unet: VideoUNet, precision: Precision = "fp32", compile: bool = False) -> None:
        if compile:
            _check_compiler()
        self.unet, self.precision, self.compile = unet, precision, compile
        self._compiled: dict[str, Callable[..., torch.Tensor]] = {}

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
        dtype, run = self.unet.dtype, self._translated(z.device.type) if self.compile else self.unet
        with running_in(self.precision, z.device):
            v: torch.Tensor = run(
                z.to(dtype),
                levels,
                actions.to(dtype),
                kept,
                first.to(dtype),
                time,
                None if tokens is None else tokens.to(dtype),
            )
        # the next replay of a CUDA graph writes over its results
        return v.float().clone() if self.compile and v.is_cuda else v.float()

    def _translated(self, device: str) -> Callable[..., torch.Tensor]:
        if device not in self._compiled:
            warnings.warn(
                "sampler.compile: the first steps with a number of slots take about a minute each, while "
                "torch.compile translates the network for it",
                stacklevel=2,
            )
            how: dict[str, object] = (
                {"mode": "reduce-overhead"} if device == "cuda" else {"options": {"freezing": True}}
            )
            self._compiled[device] = torch.compile(self.unet, dynamic=False, **how)  # type: ignore[call-overload]
        return self._compiled[device]


def _check_compiler() -> None:
    usual = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual)
    if shutil.which(compiler) is None:
        raise RuntimeError(
            f"sampler.compile needs a C++ compiler, and there is no {compiler!r} here; install one (Debian: "
            "apt-get install g++), name it in the environment variable CXX, or leave sampler.compile False"
        )
