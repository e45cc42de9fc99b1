"""How a network reads actions."""

from __future__ import annotations

import torch
from torch import nn


class ActionEncoder(nn.Module):
    """Per-frame action to an embedding that is added to that of the noise level (Vid2World, section 3.2).

    A dropped action is an embedding of zeros, not a special token, so dropping every action is the same
    network without actions.
    """

    def __init__(self, action_dim: int, hidden: int, embedding: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(action_dim, hidden),
            nn.SiLU(),
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
