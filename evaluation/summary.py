"""From facts to numbers: the summary of a ranking is a pure function of ledger records and reality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from v2w_gym.evaluation import outcomes, panel
from v2w_gym.evaluation.entries import entry_of, plain, rank_by
from v2w_gym.evaluation.ledger import Record
from v2w_gym.evaluation.protocol import Protocol
from v2w_gym.evaluation.rules import CLIP
from v2w_gym.evaluation.stats import KINDS, Confusion, Kind, RealOutcomes, SequentialRanking


@dataclass(frozen=True)
class Reading:
    """How the facts are read, beyond what is always done.

    Attributes:
        confusion: how often the detector or judge errs on labelled episodes; gives corrected success rates.
        labelled: on which these were counted, ``"imagined"`` or ``"recorded"``.
        recorded: how often it errs on labelled recorded ones, for comparison.
        calibrate: ``"affine"`` or ``"isotonic"``: map imagined to real success, each policy by what the
            others teach. Off by default, and named in every table.
        credible_from: credibility below which an episode is not to be believed; a policy most of whose
            episodes are not has no rank.
        sequential: the plan, where the ranking might end early.
        real_rule: the success rule by which reality was measured; None where nobody said.

    Raises:
        ValueError: there is no such calibration.
    """

    confusion: Confusion | None = None
    recorded: Confusion | None = None
    labelled: Literal["imagined", "recorded"] = "imagined"
    calibrate: Kind | None = None
    credible_from: float | None = None
    sequential: SequentialRanking | None = None
    real_rule: str | None = None

    def __post_init__(self) -> None:
        if self.calibrate is not None and self.calibrate not in KINDS:
            raise ValueError(f"calibrate must be one of {', '.join(KINDS)} or None, got {self.calibrate!r}")


def summarise(
    *,
    records: Sequence[Record],
    policies: Sequence[str],
    starts: Sequence[str],
    failures: Mapping[str, str],
    real: Mapping[str, RealOutcomes],
    shaken: Mapping[str, tuple[float, float]],
    protocol: Protocol,
    reading: Reading | None = None,
) -> dict[str, Any]:
    """The content of ``summary.json``: plain JSON values, undefined numbers as None.

    Args:
        records: finished episodes.
        policies: names of all policies, in any order.
        starts: ids of the starts every policy should have been run from.
        failures: policy name to what went wrong; such a policy has no rank and no part in the agreement.
        real: measured outcomes of the policies that reality knows.
        shaken: real success without and with a little noise in the actions, of those that were tried so.
        protocol: the conditions.
        reading: what else is known, and what else is wanted.
    """
    read = reading or Reading()
    wanted, names = set(starts), sorted(policies)  # resampling must not depend on the order of the policies
    entries = [
        entry_of(
            name,
            [r for start, r in outcomes.of_policy(records, name).items() if start in wanted],
            real=real.get(name),
            shaken=shaken.get(name),
            error=failures.get(name),
            threshold=protocol.threshold,
            credible_from=read.credible_from,
            confusion=read.confusion,
        )
        for name in names
    ]
    ranked = [e for e in entries if not (e["error"] or e["abstained"]) and e["success"] is not None]
    rank_by(ranked, key="success", into="rank")
    measured = [e for e in ranked if e["real_success"] is not None]
    rank_by(measured, key="real_success", into="real_rank")
    steady = [e for e in measured if not e["unsteady"]]
    seen = panel.Panel(dict(zip(names, outcomes.scores(records, names, starts), strict=True)), protocol.seed)
    estimates = seen.agreement(measured, real)
    held = {
        "leave_one_out": seen.leave_one_out(measured),
        "ceiling": seen.ceiling(measured),
        "picked": seen.picked(measured),
        "steady": None if steady == measured else seen.agreement(steady, real),
        "calibration": None if read.calibrate is None else seen.calibrate(ranked, measured, read.calibrate),
        "shared_luck": seen.compare(ranked),
    }
    entries.sort(key=lambda e: (e["rank"] is None, e["rank"], e["name"]))
    return {
        **estimates,
        **held,
        "policies": entries,
        "episodes": len(starts),
        **asdict(protocol),
        "config_hash": protocol.hash,
        "detector": None
        if read.confusion is None
        else {
            **_detector(read.confusion),
            "labelled": read.labelled,
            "recorded": None if read.recorded is None else _detector(read.recorded),
        },
        "judge": _judge(records, wanted) if protocol.success_rule == CLIP else None,
        "credible_from": read.credible_from,
        "real_rule": read.real_rule,
        "sequential": None if read.sequential is None else _early(read.sequential, records, starts, failures),
    }


def _detector(confusion: Confusion) -> dict[str, Any]:
    """What is known of the detector's errors."""
    return {
        **asdict(confusion),
        "sensitivity": plain(confusion.sensitivity),
        "specificity": plain(confusion.specificity),
    }


def _judge(records: Sequence[Record], starts: set[str]) -> dict[str, Any]:
    """What a judge of whole clips was asked, and what it took in all attempts."""
    asked = [record for record in records if record.start_id in starts]
    costs = [record.cost for record in asked if record.cost is not None]
    return {
        "episodes": len(asked),
        "unscorable": sum(record.verdict == "unscorable" for record in asked),
        "tokens": sum(record.tokens for record in asked),
        "cost": round(math.fsum(costs), 6) if costs else None,
    }


def _early(
    plan: SequentialRanking,
    records: Sequence[Record],
    starts: Sequence[str],
    failures: Mapping[str, str],
) -> dict[str, Any]:
    """What the plan decided, and what it saved."""
    planned = starts[: plan.episodes]  # an earlier run may have gone further
    rows = {name: outcomes.in_order(records, name, planned) for name in plan.policies if name not in failures}
    standing = plan.standing(rows)
    return {
        "error": plan.error,
        "decided": [
            {"better": better, "worse": worse, "starts": n} for (better, worse), n in standing.decided.items()
        ],
        "undecided": [list(pair) for pair in (*standing.undecided, *standing.hopeless)],
        "episodes_run": sum(map(len, rows.values())),
        "episodes_planned": len(rows) * plan.episodes,
    }
