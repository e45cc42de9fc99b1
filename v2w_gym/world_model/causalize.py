"""From a non-causal video model to a causal one: pure functions on weight tensors.

A non-causal temporal kernel reads the frames at offsets (-1, 0, +1), stored in that order; a causal one those
at (-2, -1, 0). Vid2World, arXiv 2505.14357, section 3.1 and appendix A.2, gives three ways to fill the causal
kernel. All leave the bias as it is. Temporal attention keeps its weights and gains a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch

Transfer = Literal["shift", "masked", "extrapolative"]


def shift(kernel: torch.Tensor) -> torch.Tensor:
    """Keep the weights and apply them one frame late: ``(w-1, w0, w+1)`` read offsets -2, -1, 0.

    ``kernel`` has the taps on axis 2, as in ``(out, in, 3, 1, 1)``.
    """
    return kernel.clone()


def masked(kernel: torch.Tensor) -> torch.Tensor:
    """Drop the future: ``(0, w-1, w0)``."""
    return torch.cat([torch.zeros_like(kernel[:, :, :1]), kernel[:, :, :2]], dim=2)


def extrapolation_weights(future: int, past: int) -> torch.Tensor:
    """How the least-squares line through the last ``past`` frames predicts the next ``future`` ones.

    Returns:
        ``(future, past)`` float64, the gamma of appendix A.2: frame ``k`` ahead is the sum over ``j`` of
        ``gamma[k-1, j]`` times the frame ``j`` back, where ``j = 0`` is the newest.
    """
    if past < 1 or future < 0:
        raise ValueError(
            f"need at least one past frame and no negative future, got past={past}, future={future}"
        )
    time = -torch.arange(past, dtype=torch.float64)
    ahead = torch.arange(1, future + 1, dtype=torch.float64)
    mean = time.mean()
    spread = (time - mean).square().sum()
    slope = torch.zeros_like(time) if past == 1 else (time - mean) / spread
    return 1.0 / past + (ahead[:, None] - mean) * slope[None, :]


def extrapolative(kernel: torch.Tensor, past: int = 2, reach: int | None = None) -> torch.Tensor:
    """Extrapolative weight transfer (EWT): future features are replaced by a line through the past ones.

    Args:
        kernel: ``(out, in, 2 m + 1, ...)``, taps at offsets ``-m .. m``.
        past: p, the number of past frames that the line is drawn through.
        reach: how far back the causal kernel reads; default as far as the length of ``kernel`` allows (2 m).

    Returns:
        ``(out, in, reach + 1, ...)``, taps at offsets ``-reach .. 0``. For m = 1 and p = 2 this is
        ``(0, w-1 - w+1, w0 + 2 w+1)``.

    Raises:
        ValueError: an even kernel, or a reach shorter than what must be read.
    """
    taps = kernel.shape[2]
    if taps % 2 == 0:
        raise ValueError(f"a kernel symmetric in time has an odd number of taps, got {taps}")
    m = taps // 2
    reach = 2 * m if reach is None else reach
    if reach < max(m, past - 1):
        raise ValueError(
            f"reach {reach} is too short for m={m} and p={past}; it must be {max(m, past - 1)} or more"
        )
    gamma = extrapolation_weights(m, past).to(kernel.dtype)
    causal = kernel.new_zeros(*kernel.shape[:2], reach + 1, *kernel.shape[3:])
    causal[:, :, reach - m :] += kernel[:, :, : m + 1]
    for k in range(1, m + 1):
        for j in range(past):
            causal[:, :, reach - j] += gamma[k - 1, j] * kernel[:, :, m + k]
    return causal


def transfer_function(transfer: Transfer) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function of a kernel that a kind of transfer is.

    Raises:
        ValueError: an unknown kind.
    """
    functions = {"shift": shift, "masked": masked, "extrapolative": extrapolative}
    if transfer not in functions:
        raise ValueError(f"unknown weight transfer {transfer!r}; known: {sorted(functions)}")
    return functions[transfer]


def causalize(
    weights: Mapping[str, torch.Tensor], transfer: Transfer = "extrapolative"
) -> dict[str, torch.Tensor]:
    """Map every temporal kernel (a five-dimensional weight) of a state dict; all else stays as it is."""
    function = transfer_function(transfer)
    return {key: function(value) if value.ndim == 5 else value.clone() for key, value in weights.items()}
