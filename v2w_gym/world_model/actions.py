"""How a network reads actions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

ActionEncoding = Literal["mlp", "table"]


class ActionEncoder(nn.Module):
    """Per-frame action to an embedding that is added to that of the noise level (Vid2World, section 3.2).

    A dropped action is an embedding of zeros, not a special token, so dropping every action is the same
    network without actions.

    Args:
        action_dim: components of an action.
        hidden: width after the first layer.
        embedding: width of the result.
        kind: "mlp", or "table" for multi-hot actions: the first layer is then the sum of a learned row for
            each component that is on, neither biased nor bent.
    """

    def __init__(self, action_dim: int, hidden: int, embedding: int, kind: ActionEncoding = "mlp") -> None:
        super().__init__()
        table = kind == "table"
        self.layers = nn.Sequential(
            nn.Linear(action_dim, hidden, bias=not table),
            nn.Identity() if table else nn.SiLU(),
            nn.Linear(hidden, embedding),
            nn.SiLU(),
            nn.Linear(embedding, embedding),
        )

    def forward(self, actions: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Actions ``(b, f, a)`` to embeddings ``(b, f, e)``; ``kept`` ``(b, f)`` bool drops where False."""
        embedding: torch.Tensor = self.layers(actions)
        return embedding if kept is None else embedding * kept.unsqueeze(-1).to(embedding.dtype)


def shift(actions: torch.Tensor) -> torch.Tensor:
    """``(b, f-1, a)``, where row i moves frame i to i+1, to ``(b, f, a)``, where row i leads to frame i.

    The first frame, to which no action led, gets zeros (as in the public code).
    """
    first = actions.new_zeros(len(actions), 1, actions.shape[-1])
    return torch.cat([first, actions], dim=1)
