"""How a network reads actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

ActionEncoding = Literal["mlp", "table"]
Range = tuple[float, float] | None
"""Lowest and highest set point of a component of the action, None for one that is no difference."""

_WAVES, _PLACE_WAVES = 5, 3


class Leading(nn.Module):
    """What leads to a frame: its action and, where actions are differences, the set point they add up to.

    A controller pulls the arm towards a set point that each action moves on (in MuJoCo a mocap body). The arm
    lags behind it and, where something is in the way, presses the harder the farther the set point has gone.
    Frames do not show it; without it, the place of the hand is a sum of small errors over imagined frames.
    It counts from the first frame, in units of the action, and stops at its range as it does in reality.

    Args:
        ranges: one per component of an action, ``(low, high)``, or None for a component that is no
            difference; None in place of them is the action alone.

    Attributes:
        width: numbers that lead to a frame, ``a`` of the action and ``k`` of the set point.
    """

    def __init__(self, action_dim: int, ranges: Sequence[Range] | None = None) -> None:
        super().__init__()
        if ranges is not None and len(ranges) != action_dim:
            raise ValueError(f"set_point needs {action_dim} ranges, one per component, got {len(ranges)}")
        kept = [(i, *pair) for i, pair in enumerate(ranges or ()) if pair is not None]
        if ranges is not None and not kept:
            raise ValueError("set_point has no range; where no component has one, leave it null")
        for _, low, high in kept:
            if not low <= 0.0 <= high or low == high:
                raise ValueError(
                    f"a range of set_point must contain 0, where episodes begin, got {[low, high]}"
                )
        self.action_dim, self.components = action_dim, [i for i, _, _ in kept]
        self.width = action_dim + len(kept)
        # no buffers: those that no file holds are lost where weights are read straight into a model
        self.low, self.high = [float(low) for _, low, _ in kept], [float(high) for _, _, high in kept]

    def first(self, like: torch.Tensor) -> torch.Tensor:
        """Zeros ``(b, a + k)`` for ``like`` ``(b, ...)``: no action led there (as in the public code)."""
        return like.new_zeros(len(like), self.width)

    def after(self, led: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """What ``action`` ``(b, a)`` makes of what led to the frame before, ``(b, a + k)``."""
        if not self.components:
            return action
        moved = led[:, self.action_dim :] + action[:, self.components]
        point = moved.clamp(moved.new_tensor(self.low), moved.new_tensor(self.high))
        return torch.cat([action, point], dim=1)

    def along(self, actions: torch.Tensor) -> torch.Tensor:
        """``(b, f-1, a)``, row i moves frame i to i+1, to ``(b, f, a + k)``, row i leads to frame i."""
        led = [self.first(actions)]
        for action in actions.unbind(1):
            led.append(self.after(led[-1], action))
        return torch.stack(led, dim=1)

    def since(self, led: torch.Tensor) -> torch.Tensor:
        """``(b, f, a + k)`` as it is for an episode that begins with the first of these frames."""
        action, point = led.split([self.action_dim, len(self.components)], dim=-1)
        begun = torch.cat([torch.zeros_like(action[:, :1]), action[:, 1:]], dim=1)
        return torch.cat([begun, point - point[:, :1]], dim=-1)


class SetPointMap(nn.Module):
    """Where the set point lies in the picture: a map over the pixels of a latent, for every frame.

    A network of coordinates: each pixel adds what its place says to what the set point says. Both enter as
    themselves and as waves, the shortest of a set point a sixteenth of the longest, so that small differences
    stay visible. How the camera sees the arm is left to be learned.

    Args:
        leading: which components have a set point, and its ranges.
        channels: of the map.
    """

    def __init__(self, leading: Leading, channels: int) -> None:
        super().__init__()
        self.leading, hidden = leading, 2 * channels
        self.point = nn.Linear(len(leading.components) * (1 + 2 * _WAVES), hidden)
        self.place = nn.Linear(2 * (1 + 2 * _PLACE_WAVES), hidden, bias=False)
        self.out = nn.Linear(hidden, channels)

    def forward(self, led: torch.Tensor, kept: torch.Tensor | None, size: tuple[int, int]) -> torch.Tensor:
        """``(b, f, a + k)`` to ``((b f), h, w, c)``, ``size`` being ``(h, w)``; zeros where not ``kept``."""
        dtype = self.out.weight.dtype
        longest = max(high - low for low, high in zip(self.leading.low, self.leading.high, strict=True))
        point = led[..., self.leading.action_dim :].float().flatten(0, 1) / longest
        rows, columns = ((torch.arange(side, device=led.device) + 0.5) / side - 0.5 for side in size)
        place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
        said = self.point(_waves(point, _WAVES).to(dtype))[:, None, None]
        shown: torch.Tensor = self.out(F.silu(said + self.place(_waves(place, _PLACE_WAVES).to(dtype))))
        shown = F.silu(shown)
        return shown if kept is None else shown * kept.flatten()[:, None, None, None].to(shown.dtype)


def _waves(x: torch.Tensor, count: int) -> torch.Tensor:
    """``(..., k)``, over a range of 1, to ``(..., k (1 + 2 count))``: and waves of lengths 1, 1/2, 1/4 .."""
    angles = x.unsqueeze(-1) * (2 * math.pi * 2.0 ** torch.arange(count, device=x.device))
    return torch.cat([x, angles.sin().flatten(-2), angles.cos().flatten(-2)], dim=-1)


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
