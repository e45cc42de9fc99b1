"""A row per round: on the screen, as JSON, as a picture and in the card of the new world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from v2w_gym.training.improving.notes import Notes, write_json
from v2w_gym.training.improving.verdict import SETS

_FIGURES = {"psnr_db": "PSNR, dB", "agreement": "verdicts right", "false_success": "false successes"}


def row_of(number: int, notes: Notes) -> dict[str, Any]:
    """What a round found; None for what it has not come to."""
    steps = notes.steps
    played, verdict = steps.get("play", {}), steps.get("verdict", {})
    fidelity = {
        name: {
            figure: [
                steps.get(f"fidelity_{when}", {}).get(name, {}).get(figure) for when in ("before", "after")
            ]
            for figure in ("episodes", *_FIGURES)
        }
        for name in SETS
    }
    return {
        "round": number,
        "policy": played.get("policy"),
        "episodes": played.get("episodes"),
        "real_success": played.get("real"),
        "imagined_success": [
            steps.get(f"imagined_{when}", {}).get("success") for when in ("before", "after")
        ],
        "replay": fidelity,
        "taken_over": verdict.get("taken_over"),
        "objections": verdict.get("objections", []),
        "new_policy": steps.get("train", {}).get("policy"),
        "minutes": round(notes.minutes, 2),
        "minutes_by_step": {name: step["minutes"] for name, step in steps.items()},
    }


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text: before > after."""
    head = (
        "round  real (n)    imagined     new: PSNR    verdicts     false        "
        "old: PSNR    verdicts     false        world  minutes"
    )
    lines = [head]
    for row in rows:
        real = "-" if row["real_success"] is None else f"{row['real_success']:.2f} ({row['episodes']})"
        cells = [f"{row['round']:<5d}", f"{real:10s}", _pair(row["imagined_success"], 2)]
        for name in SETS:
            found = row["replay"][name]
            cells += [f"{_pair(found['psnr_db'], 1):11s}", *(_pair(found[f], 2) for f in list(_FIGURES)[1:])]
        taken = {None: "-", True: "new", False: "kept"}[row["taken_over"]]
        lines.append("  ".join([*cells, f"{taken:5s}", f"{row['minutes']:7.1f}"]))
    lines += [
        f"round {row['round']}: the new world is not taken over: {why}"
        for row in rows
        for why in row["objections"]
    ]
    return "\n".join(lines)


def _pair(values: Sequence[float | None], digits: int) -> str:
    texts = ["-" if value is None else f"{value:.{digits}f}" for value in values]
    return f"{' > '.join(texts):11s}"


def told_of(number: int, steps: Mapping[str, Any]) -> list[str]:
    """What the card of the new world says."""
    played, verdict = steps["play"], steps["verdict"]
    lines = [
        f"Made by `v2w improve`, round {number}: fine-tuned for {steps['finetune']['steps']} steps from the "
        f"world before, with {played['learn']} episodes more, in which `{played['policy']}` plays.",
        "",
        "| replay of held-out episodes | episodes | before | after |",
        "|---|---|---|---|",
    ]
    for name, where in SETS.items():
        before, after = steps["fidelity_before"][name], steps["fidelity_after"][name]
        lines += [
            f"| {label}, {where} | {before['episodes']} | {before[key]:.3g} | {after[key]:.3g} |"
            for key, label in _FIGURES.items()
        ]
    before, after = steps["imagined_before"]["success"], steps["imagined_after"]["success"]
    lines += [
        "",
        f"Success of the policy from the starts of its play: {played['real']:.2f} in reality, {before:.2f} "
        f"imagined by the world before, {after:.2f} by this one, which has learned from part of that play.",
    ]
    if not verdict["taken_over"]:
        lines += ["", "It was not taken over:", *(f"- {why}" for why in verdict["objections"])]
    return lines


def write_table(out: Path, rounds: Sequence[Notes]) -> None:
    """Write ``improve.json`` and ``improve.png``, and print the table."""
    rows = [row_of(number, notes) for number, notes in enumerate(rounds, start=1) if notes.steps]
    if not rows:
        return
    write_json(out / "improve.json", {"rounds": rows})
    _draw(rows, out / "improve.png")
    print(f"\n{format_table(rows)}", flush=True)


def _draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (success, psnr, verdicts) = plt.subplots(1, 3, figsize=(13, 3.8))
    numbers = [row["round"] for row in rows]

    def curve(axes: Any, values: Sequence[float | None], label: str, style: str) -> None:
        points = [(n, value) for n, value in zip(numbers, values, strict=True) if value is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label)

    curve(success, [row["real_success"] for row in rows], "in reality", "ko-")
    for when, style in enumerate(("s--", "^:")):
        name = ("before", "after")[when]
        curve(success, [row["imagined_success"][when] for row in rows], f"imagined, {name}", style)
        for part in SETS:
            curve(psnr, [row["replay"][part]["psnr_db"][when] for row in rows], f"{part} play, {name}", style)
            right = [row["replay"][part]["agreement"][when] for row in rows]
            curve(verdicts, right, f"{part}, {name}", style)
    success.set(title="success of the policy", ylim=(-0.02, 1.02))
    psnr.set(title="replay of held-out episodes, dB")
    verdicts.set(title="verdicts that are right")
    for axes in (success, psnr, verdicts):
        axes.set_xlabel("round")
        axes.set_xticks(numbers)
        if axes.lines:
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
