"""Pictures and films of training samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import torch


def save_grid(path: Path, rows: Sequence[torch.Tensor], columns: int = 16, zoom: int = 2) -> None:
    """Save batches of frames ``(b, h, w, 3)`` uint8 under one another, row by row, ``columns`` wide."""
    lines = []
    for start in range(0, len(rows[0]), columns):
        lines += [np.concatenate(list(row[start : start + columns].numpy()), axis=1) for row in rows]
    width = max(line.shape[1] for line in lines)
    grid = np.concatenate([np.pad(x, ((0, 0), (0, width - x.shape[1]), (0, 0))) for x in lines])
    imageio.imwrite(path, grid.repeat(zoom, 0).repeat(zoom, 1))


def save_film(path: Path, films: Sequence[torch.Tensor], fps: int = 10, zoom: int = 3) -> None:
    """Save films ``(n, f, h, w, 3)`` uint8: a row per entry, its ``n`` films side by side."""
    rows = [np.concatenate(list(film.numpy()), axis=2) for film in films]
    film = np.concatenate(rows, axis=1).repeat(zoom, 1).repeat(zoom, 2)
    imageio.mimwrite(path, list(film), fps=fps, macro_block_size=1)
