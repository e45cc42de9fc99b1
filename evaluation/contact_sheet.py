"""One picture of a ranking: a row per policy, frames from left to right, all from the same start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from v2w_gym.data.episode import Episode
from v2w_gym.evaluation import canvas
from v2w_gym.evaluation.canvas import Picture
from v2w_gym.rewards.judge import Verdict

_SIDE, _BORDER, _GAP, _MARGIN = 120, 4, 6, 20
_LABEL, _HEAD, _COLUMNS = 210, 84, 9


@dataclass(frozen=True)
class Row:
    """One policy of a contact sheet or video.

    Attributes:
        name: of the policy.
        caption: e.g. its imagined and real success.
        episode: imagined frames, and the detector's judgement of each.
        verdict: of the episode.
    """

    name: str
    caption: Sequence[str]
    episode: Episode
    verdict: Verdict


def contact_sheet(rows: Sequence[Row], title: str, subtitle: str) -> Picture:
    """Draw ``rows``, best policy first; a frame judged a success has a green border."""
    columns = np.unique(np.linspace(0, len(rows[0].episode) - 1, _COLUMNS).round().astype(int))
    drawn = [[_frame(row.episode, column) for column in columns] for row in rows]
    height, width = drawn[0][0].shape[0] + _GAP, drawn[0][0].shape[1] + _GAP
    sheet = canvas.blank(
        _HEAD + height * len(rows) + _MARGIN, _MARGIN + _LABEL + width * len(columns) + _MARGIN
    )
    canvas.write(sheet, title, x=_MARGIN, y=14, size=17, bold=True)
    canvas.write(sheet, subtitle, x=_MARGIN, y=38, size=13, colour=canvas.FAINT)
    for i, column in enumerate(columns):
        x = _MARGIN + _LABEL + i * width + _BORDER
        canvas.write(sheet, f"frame {column}", x=x, y=_HEAD - 20, size=13, colour=canvas.FAINT)
    for j, row in enumerate(rows):
        top = _HEAD + j * height
        _label(sheet, row, top + 22)
        for i, tile in enumerate(drawn[j]):
            x = _MARGIN + _LABEL + i * width
            sheet[top : top + tile.shape[0], x : x + tile.shape[1]] = tile
    return sheet


def _frame(episode: Episode, index: int) -> Picture:
    colour = canvas.SUCCESS if episode.success[index] else canvas.RUNNING
    return canvas.framed(episode.frames[index], _SIDE, colour, _BORDER)


def _label(sheet: Picture, row: Row, y: int) -> None:
    room = _LABEL - 14
    canvas.write(sheet, row.name, x=_MARGIN, y=y, size=15, bold=True, width=room)
    for i, line in enumerate(row.caption):
        canvas.write(sheet, line, x=_MARGIN, y=y + 22 + 18 * i, size=13, colour=canvas.FAINT, width=room)
    word, colour = row.verdict, canvas.VERDICTS[row.verdict]
    canvas.write(
        sheet,
        f"here: {word}",
        x=_MARGIN,
        y=y + 22 + 18 * len(row.caption),
        size=13,
        colour=colour,
        width=room,
    )
