"""AdamW for all weights, or Muon for the matrices and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    """One or two optimisers of torch with one learning rate, or a higher one for weights that are new.

    Muon (Jordan et al., "Muon: an optimizer for hidden layers", 2024) makes the update of a weight matrix
    orthogonal. Convolution kernels are taken as matrices of ``(out, everything else)``. Its step is scaled to
    the size of AdamW's (arXiv 2502.16982, eq. 4), so a learning rate means the same for both.

    Args:
        module: whose parameters to optimise.
        kind: "adamw" or "muon".
        weight_decay: for parameters of more than one axis.
        fresh: names of parameters that learn faster, since they are new where the others are trained.
        fresh_rate: how many times as fast.
    """

    def __init__(
        self,
        module: nn.Module,
        kind: Kind,
        weight_decay: float,
        fresh: Collection[str] = (),
        fresh_rate: float = 1.0,
    ) -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self._matrices: list[tuple[nn.Parameter, nn.Parameter]] = []
        plain, hidden = [], []
        for rate, new in ((1.0, False), (fresh_rate, True)):
            group = [(name, p) for name, p in named if (name in fresh) == new]
            matrices = [p for name, p in group if kind == "muon" and _is_hidden(name, p)]
            pairs = [(p, nn.Parameter(p.data.view(len(p), -1))) for p in matrices]
            self._matrices += pairs
            taken = {id(p) for p in matrices}
            decay = [p for _, p in group if p.ndim > 1 and id(p) not in taken]
            plain += [
                {"params": decay, "weight_decay": weight_decay, "rate": rate},
                {"params": [p for _, p in group if p.ndim <= 1], "weight_decay": 0.0, "rate": rate},
            ]
            hidden.append({"params": [matrix for _, matrix in pairs], "rate": rate})
        self.parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(_filled(plain), betas=(0.9, 0.99))]
        if self._matrices:
            self.parts.append(
                torch.optim.Muon(_filled(hidden), weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            )

    def step(self, learning_rate: float) -> None:
        """Update all parameters from their gradients."""
        for parameter, matrix in self._matrices:
            gradient = parameter.grad
            matrix.grad = None if gradient is None else gradient.reshape(len(parameter), -1)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * group.get("rate", 1.0)
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


def _is_hidden(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and not any(part in name for part in _NOT_HIDDEN)


def _filled(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [group for group in groups if group["params"]]
