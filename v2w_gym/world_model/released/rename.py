"""Weights from one naming to another by a table of patterns; what the table does not explain is an error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import torch

from v2w_gym.weights import complain


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
    complain(
        "the weights do not fit the table of names",
        {"unknown": unknown, "matched more than once": ambiguous, "renamed to one name": clashing},
    )
    return renamed
