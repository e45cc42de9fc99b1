"""How a world's detector errs on episodes whose outcome is known: what the world itself carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from v2w_gym.config import from_dict
from v2w_gym.envs.integrity import verify
from v2w_gym.envs.world import World
from v2w_gym.evaluation.stats import Confusion

Kind = Literal["imagined", "recorded"]

_REPORT = "detector/report.json"


def shipped_confusion(world: World, episodes: Kind = "imagined") -> Confusion | None:
    """Counts of the detector's verdicts on episodes against how they ended in reality; None if not known.

    They lie in the detector's report. For ``"imagined"`` ones, ``v2w card`` puts there what ``v2w validate``
    found: held-out actions were replayed in imagination, so the errors of the world model are among them. For
    ``"recorded"`` ones, the detector saw reality's own frames. A report about other weights of a detector is
    not used.

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
    found = [result for title, result in report.get("results", {}).items() if title.startswith(episodes)]
    return confusion_from(found[-1]["per_episode"]) if found else None


def confusion_from(counts: Mapping[str, Any]) -> Confusion:
    """Counts per episode as ``validation.json`` and the detector's report hold them.

    Raises:
        ValueError: a count is missing or no whole number.
    """
    kept = {name: counts[name] for name in Confusion.__dataclass_fields__ if name in counts}
    return from_dict(Confusion, kept, where=f"{_REPORT}, per_episode")
