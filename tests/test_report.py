"""Tables and pictures: what a person sees of a ranking."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from test_ledger import record

from v2w_gym.data.episode import Episode
from v2w_gym.evaluation import canvas, format_table
from v2w_gym.evaluation.contact_sheet import Row, contact_sheet
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.page import Sources
from v2w_gym.evaluation.report import draw
from v2w_gym.evaluation.scatter import place_labels
from v2w_gym.evaluation.video import write_video


def entry(name: str, success: float | None, real: float | None, error: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "rank": None if error else 1,
        "episodes": 50,
        "unscorable": 0,
        "success": success,
        "low": success,
        "high": success,
        "real_rank": None if real is None else 1,
        "real_episodes": 0 if real is None else 100,
        "real_success": real,
        "real_low": real,
        "real_high": real,
        "real_shaken": None,
        "unsteady": False,
        "error": error,
    }


def summary(*entries: dict[str, Any], pearson: Any) -> dict[str, Any]:
    conditions = {"steady": None, "world": "w", "episodes": 50, "success_rule": "any", "seed": 0}
    return {"policies": list(entries), "pearson": pearson, "spearman": pearson, "mmrv": pearson, **conditions}


def row(name: str, length: int, success: bool, size: tuple[int, int] = (48, 64)) -> Row:
    frames = np.full((length, *size, 3), 90, np.uint8)
    flags = np.zeros(length, np.bool_)
    flags[-1] = success
    return Row(
        name,
        ["imagined 0.50"],
        Episode(frames, None, flags, "t", name, 0),
        "success" if success else "failure",
    )


def test_table_shows_what_is_known_and_says_what_is_not() -> None:
    known = {"value": 0.5, "low": 0.25, "high": 0.75}
    text = format_table(
        summary(
            entry("good", 0.9, 0.8),
            entry("new", 0.1, None),
            entry("bad", None, 0.2, "act raised"),
            pearson=known,
        )
    )
    lines = {line.split()[1]: line for line in text.splitlines() if "[" in line}
    assert "+0.10" in lines["good"]
    assert "-  " in lines["new"]
    assert lines["bad"].startswith("failed")
    assert "0.50 [0.25, 0.75]" in text
    assert "bad (after 50 episodes): act raised" in text


def test_table_without_reality_or_with_undefined_agreement() -> None:
    assert "not held against reality" in format_table(summary(entry("x", 0.5, None), pearson=None))
    undefined = dict.fromkeys(("value", "low", "high"))
    assert "undefined" in format_table(summary(entry("x", 0.5, 0.5), pearson=undefined))


def test_contact_sheet_marks_success_in_green() -> None:
    sheet = contact_sheet([row("good", 33, True), row("bad", 33, False)], "title", "subtitle")
    green = (sheet == canvas.SUCCESS).all(axis=-1)
    half = sheet.shape[0] // 2
    assert green[:half].sum() > green[half:].sum() > -1
    assert green[half + 40 :].sum() == 0


@pytest.mark.parametrize("policies", [1, 2, 5])
def test_video_can_be_read_back(tmp_path: Path, policies: int) -> None:
    rows = [row(f"a policy with quite a long name {i}", 4, i % 2 == 0) for i in range(policies)]
    write_video(tmp_path / "v.mp4", [("start a", rows), ("start b", rows)], fps=8.0)
    video = imageio.imread(tmp_path / "v.mp4")
    assert len(video) == 2 * (4 + round(1.5 * 4))
    assert video.shape[1] % 2 == video.shape[2] % 2 == 0
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def test_labels_of_crowded_points_do_not_overlap() -> None:
    figure = Figure(figsize=(7, 7), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.1, 0.85, 0.85))
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.06))
    crowd = [entry(f"never-succeeds-{i}", 0.0, 0.0) for i in range(6)]
    crowd += [entry(f"always-{i}", 1.0 - 0.01 * i, 1.0) for i in range(5)]
    rooms = place_labels(axes, crowd)
    assert len(rooms) == len(crowd)
    for i, first in enumerate(rooms):
        assert not any(first.overlaps(second) for second in rooms[:i])
        assert axes.get_window_extent().contains(*first.min)
        assert axes.get_window_extent().contains(*first.max)


def test_films_of_odd_names_are_kept_apart(tmp_path: Path) -> None:
    films = Films(tmp_path)
    names = ["a/b", "a_b", "my_module:Policy", "../up", "ünder"]
    for name in names:
        films.save(name, "seed-0001", row(name, 2, False).episode)
    for name in names:
        film = films.load(name, "seed-0001")
        assert film is not None
        assert film.behaviour == name
        assert tmp_path in films.path(name, "x").resolve().parents
    assert films.load("a/b", "seed-0002") is None


def test_a_name_with_dollars_is_no_formula() -> None:
    figure = Figure(figsize=(7, 7), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.1, 0.85, 0.85))
    place_labels(axes, [entry("costs$_$much", 0.5, 0.5)])
    figure.canvas.draw()


def test_policies_from_different_starts_still_make_a_video(tmp_path: Path) -> None:
    """A ledger of several runs may lack some policies at a later start."""
    films, there = (
        Films(tmp_path / "frames"),
        [("a", "s0"), ("b", "s0"), ("a", "s1"), ("a", "s2"), ("b", "s2")],
    )
    for name, start in there:
        films.save(name, start, row(name, 3, True).episode)
    records = [
        dataclasses.replace(record(0), policy=name, start_id=start, verdict="success")
        for name, start in there
    ]
    told = summary(entry("a", 1.0, None), entry("b", 1.0, None), pearson=None)
    draw(Sources(told, records, ["s0", "s1", "s2"], [], films, 8.0), tmp_path)
    assert len(imageio.imread(tmp_path / "episodes.mp4")) == 2 * (3 + round(1.5 * 4)), "s0 and s2"
