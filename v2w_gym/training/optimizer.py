"""AdamW for all weights, or Muon for the matrices and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

Kind = Literal["adamw", "muon"]
_NOT_HIDDEN = (
    "conv_in.",
    "conv_out.",
    "distance_bias",
)  # they meet data, or are tables; Muon is not for them


class Optimizer:
    """One or two optimisers of torch with one learning rate.

    Muon (Jordan et al., "Muon: an optimizer for hidden layers", 2024) makes the update of a weight matrix
    orthogonal. Convolution kernels are taken as matrices of ``(out, everything else)``. Its step is scaled to
    the size of AdamW's (arXiv 2502.16982, eq. 4), so a learning rate means the same for both.

    Args:
        module: whose parameters to optimise.
        kind: "adamw" or "muon".
        weight_decay: for parameters of more than one axis.
    """

    def __init__(self, module: nn.Module, kind: Kind, weight_decay: float) -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        decay = [p for _, p in named if p.ndim > 1]
        self._matrices: list[tuple[nn.Parameter, nn.Parameter]] = []
        if kind == "muon":
            hidden = [p for name, p in named if p.ndim > 1 and not any(n in name for n in _NOT_HIDDEN)]
            self._matrices = [(p, nn.Parameter(p.data.view(len(p), -1))) for p in hidden]
            taken = {id(p) for p in hidden}
            decay = [p for p in decay if id(p) not in taken]
        groups = [
            {"params": decay, "weight_decay": weight_decay},
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=(0.9, 0.99))]
        if self._matrices:
            matrices = [matrix for _, matrix in self._matrices]
            self.parts.append(
                torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            )

    def step(self, learning_rate: float) -> None:
        """Update all parameters from their gradients."""
        for parameter, matrix in self._matrices:
            gradient = parameter.grad
            matrix.grad = None if gradient is None else gradient.reshape(len(parameter), -1)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """State of every part."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take on what ``state_dict`` gave.

        Raises:
            ValueError: the state of another kind of optimiser.
        """
        if len(state["parts"]) != len(self.parts):
            raise ValueError(
                "the checkpoint was made with another loop.optimizer; keep the one that it was made with, "
                "or start from its weights with init=FOLDER/unet in a new folder"
            )
        for part, values in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(values)
