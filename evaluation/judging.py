"""A judge of whole clips for the episodes of a ranking: opened from what a user names, and recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from v2w_gym.evaluation.ledger import Record
from v2w_gym.rewards.judge import ClipJudge, Judgement


def opened(judge: str | Path | ClipJudge, device: str) -> tuple[ClipJudge, str | None]:
    """The judge, and what it can be opened from again; None for an object.

    Raises:
        FileNotFoundError: there is no such judge.
        ValueError: its file has an unknown key or value.
    """
    if not isinstance(judge, str | Path):
        return judge, None
    from v2w_gym.rewards.judges import open_judge

    file = Path(judge)
    return open_judge(judge, device=device), str(file.resolve() if file.is_file() else judge)


def judged(record: Record, found: Judgement, threshold: float) -> Record:
    """``record`` with the verdict of a judge, and what all attempts to get one have cost.

    Args:
        record: of the same episode, from before it was asked.
        found: what it said.
        threshold: probability from which an episode counts as success.
    """
    known = [cost for cost in (record.cost, found.cost) if cost is not None]
    return replace(
        record,
        verdict=found.verdict(threshold),
        probability=None if found.probability is None else float(f"{found.probability:.4g}"),
        reason=found.reason,
        tokens=record.tokens + found.tokens,
        cost=sum(known) if known else None,
    )
