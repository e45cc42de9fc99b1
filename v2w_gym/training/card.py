"""The card of a world: how long it was trained, and what validation found. Written, never typed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from v2w_gym.envs.world import World, write_hashes
from v2w_gym.training.detector import add_to_card

_STAGES = ("| stage | episodes | seed | steps | minutes | last losses |", "|---|---|---|---|---|---|")


def write_card(folder: str | Path, runs: Mapping[str, str], validation: str | Path) -> None:
    """Write ``README.md`` of a world, add imagined frames to its detector's card, and hash the world anew.

    Stages in the card that is there stay, unless ``runs`` has them: later legs come after them.

    Args:
        folder: the world.
        runs: stage name to the folder that it was trained in, in the order of training.
        validation: ``validation.json`` of ``v2w audit``.
    """
    folder = Path(folder)
    report = json.loads(Path(validation).read_text())
    add_to_card(
        folder / "detector", "imagined frames (replay of held-out actions)", report["detector_on_imagined"]
    )
    write_hashes(folder)
    stages = {name: _stage(name, Path(path)) for name, path in runs.items()}
    world = World.open(folder)
    model = world.model()
    lines = [
        f"# World `{world.config.name}`, version {world.config.version}",
        "",
        f"Weights and sampler `{model.hash}`. {world.config.frame_size[0]}x{world.config.frame_size[1]} RGB, "
        f"{world.config.horizon} steps, window of {world.config.window} frames, "
        f"{world.config.sampler.get('steps')} denoising steps.",
        "",
        "## Training",
        "",
        *_STAGES,
        *{**_kept(folder / "README.md"), **stages}.values(),
        "",
        *_validation(report),
        "",
        "The success detector has a card of its own in `detector/README.md`.",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n")


def _kept(card: Path) -> dict[str, str]:
    """Stage name to its line in the card that is there."""
    lines = card.read_text().splitlines() if card.is_file() else []
    if _STAGES[0] not in lines:
        return {}
    rows = takewhile(lambda line: line.startswith("|"), lines[lines.index(_STAGES[0]) + 2 :])
    return {row.split("|")[1].strip(): row for row in rows}


def _stage(name: str, folder: Path) -> str:
    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    last = lines[-1]
    minutes, previous = 0.0, 0.0
    for line in lines:  # in older logs the clock starts anew when a run is resumed
        minutes += line["minutes"] - (previous if line["minutes"] >= previous else 0.0)
        previous = line["minutes"]
    losses = ", ".join(f"{k} {v:.4g}" for k, v in last.items() if k not in ("step", "minutes"))
    legs = [json.loads(line) for line in (folder / "legs.jsonl").read_text().splitlines()]
    episodes: dict[str, int] = {}
    for leg in legs:
        episodes |= leg["episodes"]
    data = ", ".join(f"{folder} {count:,}" for folder, count in episodes.items())
    seed = legs[-1]["config"]["loop"]["seed"]
    return f"| {name} | {data} | {seed} | {last['step']} | {minutes:.0f} | {losses} |"


def _validation(report: Mapping[str, Any]) -> list[str]:
    played = report["replay"]
    lines = [
        "## Validation",
        "",
        f"Open-loop replay of {played['episodes']} held-out episodes: the detector's verdict agrees with the "
        f"simulator's flag in {played['verdict_agreement']:.1%}; {played['psnr_mean_db']:.1f} dB on average "
        f"over all steps, {played['psnr_by_step_db'][-1]:.1f} dB at the last.",
    ]
    if "reality_again" in report:
        row = report["reality_again"]
        lines += [
            f"Reality agrees with itself in {row['verdict_agreement']:.1%} of them when noise of standard "
            f"deviation {row['action_noise']:g} is added to the actions.",
        ]
    if "optimism" in report:
        lines += ["", "| never succeeds in reality | imagined success | episodes |", "|---|---|---|"]
        lines += [
            f"| {kind} | {row['imagined_success']:.2f} | {row['episodes']} |"
            for kind, row in report["optimism"].items()
        ]
    if "action_following" in report:
        row = report["action_following"]
        lines += [
            "",
            f"Constant actions move the imagined hand rightly: {row['right']} of {row['of']} directions.",
        ]
    return lines
