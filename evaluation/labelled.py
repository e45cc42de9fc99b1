"""How a detector or a judge errs on episodes whose outcome is known: what its report says.

A world carries that of its own detector, ``detector/report.json``; ``v2w judge-check`` writes that of a
judge, ``judge_check.json``. Both hold
``{"hash": ..., "results": {title: {"per_episode": counts, ...}}}``, where the
title begins with ``imagined`` or ``recorded``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from v2w_gym.config import from_dict
from v2w_gym.envs.integrity import verify
from v2w_gym.envs.world import World
from v2w_gym.evaluation.protocol import Protocol
from v2w_gym.evaluation.stats import Confusion

Kind = Literal["imagined", "recorded"]

CHECK = "judge_check.json"
_REPORT = "detector/report.json"
_RULE = "any"  # by which the report of a detector counts episodes


@dataclass(frozen=True)
class Errors:
    """What is known of the errors of a detector or judge.

    Attributes:
        confusion: what corrected success rates use; None if nothing is known.
        labelled: on which episodes that was counted. On recorded ones, the errors of the world model are not
            among it.
        recorded: the counts on recorded episodes, for comparison, where those on imagined ones are known.
    """

    confusion: Confusion | None = None
    labelled: Kind = "imagined"
    recorded: Confusion | None = None


def errors_of(
    world: World, protocol: Protocol, folder: str | Path | None = None, given: str | Path | None = None
) -> Errors:
    """What is known of the errors of the detector or judge that gave verdicts under ``protocol``.

    A detector's report counts verdicts by the rule ``any``, and says nothing of those by another.

    Args:
        world: may ship the report of its detector.
        protocol: names detector or judge, its threshold, and the rule of its verdicts.
        folder: of a ranking, in which the report of ``v2w judge-check`` may lie.
        given: that report, or its folder, in place of both.

    Raises:
        FileNotFoundError: the given report is not there.
        ValueError: it is about something else, or a report is damaged.
    """
    if given is not None:
        path = _check_file(given)
        if not path.is_file():
            raise FileNotFoundError(f"no report {path}; write one with v2w judge-check SPEC --clips FOLDER")
        report = _read(path)
        if not _is_about(report, protocol):
            raise ValueError(
                f"{path} is about the judge {report.get('hash')} from {report.get('threshold')} on, these "
                f"episodes were judged by {protocol.detector_hash} from {protocol.threshold:g} on; check "
                "that one: v2w judge-check SPEC --clips FOLDER"
            )
        return _errors(report)
    beside = None if folder is None else Path(folder) / CHECK
    if beside is not None and beside.is_file() and _is_about(report := _read(beside), protocol):
        return _errors(report)
    if protocol.success_rule != _RULE or world.config.detector.kind == "none":
        return Errors()
    if world.detector().hash != protocol.detector_hash:
        return Errors()
    imagined = shipped_confusion(world)
    return Errors(imagined, recorded=None if imagined is None else shipped_confusion(world, "recorded"))


def keep_check(given: str | Path, folder: Path) -> None:
    """Put a report of ``v2w judge-check`` beside a ledger, where :func:`errors_of` finds it again."""
    text, own = _check_file(given).read_text(), folder / CHECK
    partial = own.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(own)


def _check_file(given: str | Path) -> Path:
    return Path(given) / CHECK if Path(given).is_dir() else Path(given)


def _is_about(report: Mapping[str, Any], protocol: Protocol) -> bool:
    """Whether a judge's card is about the verdicts of ``protocol``: its hash does not name the threshold."""
    threshold = report.get("threshold", protocol.threshold)  # cards from before it was kept have none
    return (report.get("hash"), threshold) == (protocol.detector_hash, protocol.threshold)


def _errors(report: Mapping[str, Any]) -> Errors:
    """Counts on imagined episodes if there are any, else on recorded ones."""
    imagined, recorded = (_counted(report, kind) for kind in ("imagined", "recorded"))
    return Errors(recorded, "recorded") if imagined is None else Errors(imagined, recorded=recorded)


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
    report = _read(path)
    return _counted(report, episodes) if report.get("hash") == world.detector().hash else None


def _counted(report: Mapping[str, Any], episodes: str) -> Confusion | None:
    found = [result for title, result in report.get("results", {}).items() if title.startswith(episodes)]
    return confusion_from(found[-1].get("per_episode", {})) if found else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); move it away, or write it again") from error


def confusion_from(counts: Mapping[str, Any]) -> Confusion:
    """Counts per episode as ``validation.json`` and the reports of detectors and judges hold them.

    Raises:
        ValueError: a count is missing or no whole number.
    """
    kept = {name: counts[name] for name in Confusion.__dataclass_fields__ if name in counts}
    return from_dict(Confusion, kept, where="per_episode")
