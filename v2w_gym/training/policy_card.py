"""Measure the shipped policies in Meta-World and write the card of their weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import safe_open

from v2w_gym.data import reality
from v2w_gym.policies import registry
from v2w_gym.policies.shipped import SHIPPED, WEIGHTS


def measure_shipped(
    out: str | Path, command: str, *, names: list[str] | None = None, episodes: int = 100, workers: int = 2
) -> dict[str, Any]:
    """Run shipped policies from the start seeds; write the reality table and the card of the weights.

    Args:
        out: the table, e.g. ``reality.json`` of a world folder; policies in it that are not measured stay.
        command: the line that does this again.
        names: which policies; None means all.
        episodes: start seeds 0..episodes-1.
        workers: processes.
    """
    chosen = registry.names() if names is None else names
    for name in chosen:
        registry.load(name)  # an unknown name is to be heard of before the first episode
    table = reality.measure(chosen, registry.load, out, command=command, episodes=episodes, workers=workers)
    write_card(WEIGHTS, table)
    return table


def write_card(weights: Path, table: dict[str, Any]) -> None:
    """Write ``README.md`` beside the weights: how each file was trained and what the policies achieve.

    Args:
        weights: folder of safetensors files.
        table: the reality table.
    """
    lines = [
        "# Weights of the shipped policies",
        "",
        "From one 64x64 frame to one action, learned from Meta-World's scripted expert on frames of *clean*",
        "demonstrations (the expert acts) and *recovery* ones (something clumsy acts, the expert says what",
        "it would do). Those with a step are small convolutional networks; the others are fitted in one go.",
        "Made by",
        "`v2w train policies --config configs/drawer_close/policies.yaml`.",
        "",
        "| file | step | clean | recovery | expert's aim | sha256 |",
        "|---|---|---|---|---|---|",
    ]
    for path in sorted(weights.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            notes = file.metadata()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        values = " | ".join(notes[key] for key in ("step", "clean", "recovery", "aim"))
        lines.append(f"| {path.name} | {values} | `{digest}` |")
    lines += [
        "",
        f"True success in Meta-World {table['metaworld']} from {table['episodes']} start seeds (flag after",
        f"any of the 32 actions), by `{table['command']}`; *shaken* is with a little noise in the actions:",
        "",
        "| policy | what it is | success | shaken |",
        "|---|---|---|---|",
    ]
    measured = {name: entry for name, entry in table["policies"].items() if name in SHIPPED}
    for name in sorted(measured, key=lambda name: -measured[name]["success"]):
        rates = " | ".join(f"{rate:.2f}" for rate in _rates(measured[name]))
        lines.append(f"| {name} | {SHIPPED[name].description} | {rates} |")
    (weights / "README.md").write_text("\n".join(lines) + "\n")


def _rates(entry: dict[str, Any]) -> tuple[float, float]:
    return entry["success"], entry["shaken"]["success"]
