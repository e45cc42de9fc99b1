"""How a world's detector errs on imagined episodes whose outcome is known: what the world itself carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from v2w_gym.config import from_dict
from v2w_gym.envs.integrity import verify
from v2w_gym.envs.world import World
from v2w_gym.evaluation.stats import Confusion

_REPORT = "detector/report.json"


def shipped_confusion(world: World) -> Confusion | None:
    """Counts of the detector's verdicts on imagined episodes against what reality said, or None.

    They lie in the detector's report, where ``v2w card`` puts what ``v2w validate`` found: held-out actions
    were replayed in imagination, and every episode is labelled by how it ended in reality. So they hold the
    errors of the world model too. A report about other weights of the detector is not used.

    Raises:
        ValueError: the report is damaged.
    """
    path = world.folder / _REPORT
    if not path.is_file():
        return None
    verify(world.folder, world.config.hashes, ("detector",))
    report = json.loads(path.read_text())
    if report.get("hash") != world.detector().hash:
        return None
    imagined = [found for title, found in report.get("results", {}).items() if title.startswith("imagined")]
    return confusion_from(imagined[-1]["per_episode"]) if imagined else None


def confusion_from(counts: Mapping[str, Any]) -> Confusion:
    """Counts per episode as ``validation.json`` and the detector's report hold them.

    Raises:
        ValueError: a count is missing or no whole number.
    """
    kept = {name: counts[name] for name in Confusion.__dataclass_fields__ if name in counts}
    return from_dict(Confusion, kept, where=f"{_REPORT}, per_episode")
