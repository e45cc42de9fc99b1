"""The pictures of a ranking, drawn from its summary and the frames it kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np

from v2w_gym.evaluation.contact_sheet import Row, contact_sheet
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.page import Sources
from v2w_gym.evaluation.rollout import FILMED_STARTS
from v2w_gym.evaluation.rules import CLIP
from v2w_gym.evaluation.scatter import write_scatter
from v2w_gym.evaluation.table import metric_line
from v2w_gym.evaluation.video import write_video
from v2w_gym.rewards.judge import Verdict

_SHEET_ROWS, _VIDEO_TILES = 8, 15


def draw(sources: Sources, out: Path) -> None:
    """Write ``contact_sheet.png``, ``episodes.mp4`` and, with a known reality, ``scatter.png``."""
    summary, films = sources.summary, sources.films
    verdicts = {(record.policy, record.start_id): record.verdict for record in sources.records}
    filmed = {start: _rows(summary, verdicts, films, start) for start in sources.starts[:FILMED_STARTS]}
    scenes = [(start, rows) for start, rows in filmed.items() if rows]
    if scenes:
        # a ledger of several runs may have other policies at each start; a video cannot change its size
        names = [row.name for row in scenes[0][1]]
        scenes = [(start, rows) for start, rows in scenes if [row.name for row in rows] == names]
        start, rows = scenes[0]
        title = f"{summary['world']}: policies from start {start}, all with the same noise"
        subtitle = (
            "imagined frames; judged as a whole clip"
            if summary["success_rule"] == CLIP
            else "imagined frames; a green border marks a frame that the success detector takes for a success"
        )
        imageio.imwrite(out / "contact_sheet.png", contact_sheet(_spread(rows, _SHEET_ROWS), title, subtitle))
        titled = [
            (f"{summary['world']}, start {start}", _spread(rows, _VIDEO_TILES)) for start, rows in scenes
        ]
        write_video(out / "episodes.mp4", titled, sources.fps)
    measured = [e for e in summary["policies"] if e["rank"] is not None and e["real_success"] is not None]
    if measured:
        conditions = f"{summary['world']}, {summary['episodes']} episodes per policy"
        write_scatter(out / "scatter.png", measured, f"{conditions}\n{metric_line(summary)}")


def _rows(
    summary: Mapping[str, Any], verdicts: Mapping[tuple[str, str], Verdict], films: Films, start: str
) -> list[Row]:
    rows = []
    for entry in summary["policies"]:
        episode = films.load(entry["name"], start)
        verdict = verdicts.get((entry["name"], start))
        if entry["rank"] is None or episode is None or verdict is None:
            continue
        real = entry["real_success"]
        caption = [f"imagined {entry['success']:.2f}", "" if real is None else f"real {real:.2f}"]
        rows.append(Row(entry["name"], [line for line in caption if line], episode, verdict))
    return rows


def _spread(rows: Sequence[Row], most: int) -> list[Row]:
    """At most ``most`` of the rows, evenly from best to worst."""
    picked = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
    return [rows[i] for i in picked]
