"""Weights from one naming to another by a table of patterns; what the table does not explain is an error."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)
SHOWN = 10


def rename(
    source: Mapping[str, torch.Tensor], rules: Sequence[tuple[str, str]], ignored: Iterable[str] = ()
) -> dict[str, torch.Tensor]:
    r"""The same tensors under other names.

    Args:
        source: tensors by name.
        rules: ``(pattern, replacement)``, regular expressions as ``re.sub`` takes them, e.g.
            ``(r"layers\.(\d+)\.0\.(.+)", r"layers.\1.attention.\2")``. A pattern must match the whole name.
        ignored: patterns of names that are dropped on purpose.

    Returns:
        tensors by new name, in the order of ``source``; none is copied.

    Raises:
        ValueError: a name that no pattern matches, or more than one, or two names that become the same.
    """
    table = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    dropped = [re.compile(pattern) for pattern in ignored]
    renamed: dict[str, torch.Tensor] = {}
    unknown: list[str] = []
    ambiguous: list[str] = []
    clashing: list[str] = []
    for name, value in source.items():
        found = [match.expand(target) for pattern, target in table if (match := pattern.fullmatch(name))]
        matches = len(found) + sum(pattern.fullmatch(name) is not None for pattern in dropped)
        if matches != 1:
            (ambiguous if matches else unknown).append(name)
        elif found and found[0] in renamed:
            clashing.append(f"{name} -> {found[0]}")
        elif found:
            renamed[found[0]] = value
    _complain(
        "the weights do not fit the table of names",
        {"unknown": unknown, "matched more than once": ambiguous, "renamed to one name": clashing},
    )
    return renamed


def fill_strictly(module: M, weights: Mapping[str, torch.Tensor]) -> M:
    """Make ``weights`` the weights of ``module``: all of them, nothing else, of the right shapes.

    The tensors are taken over, not copied, unless their dtype differs from the module's. So a module made
    under ``torch.device("meta")`` costs no memory of its own; buffers that a state dict leaves out must then
    be made anew on a real device.

    Returns:
        ``module``.

    Raises:
        ValueError: names that are missing or left over, or shapes that differ; the module is unchanged.
    """
    wanted = module.state_dict()
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(target.shape)}"
        for name, target in wanted.items()
        if name in weights and weights[name].shape != target.shape
    ]
    _complain(
        f"the weights do not fit {type(module).__name__}; is its configuration that of the checkpoint?",
        {
            "missing": wanted.keys() - weights.keys(),
            "left over": weights.keys() - wanted.keys(),
            "wrong shape": shapes,
        },
    )
    cast = {name: weights[name].to(target.dtype) for name, target in wanted.items()}
    module.load_state_dict(cast, assign=True)
    return module


def _complain(heading: str, faults: Mapping[str, Collection[str]]) -> None:
    """Raise a ValueError that lists the first faults of each kind and counts the rest, if there are any."""
    lines = []
    for kind, names in faults.items():
        if names:
            more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append(f"  {kind} ({len(names)}): {', '.join(sorted(names)[:SHOWN])}{more}")
    if lines:
        raise ValueError("\n".join([heading, *lines]))
