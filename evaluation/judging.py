"""Ask a judge of whole clips for verdicts on episodes; whatever goes wrong with it is nobody's failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from v2w_gym.evaluation.ledger import Record
from v2w_gym.rewards.judge import Clip, ClipJudge, Judgement


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


def judgements(judge: ClipJudge, clips: Sequence[Clip]) -> list[Judgement]:
    """What ``judge`` says of each clip; where it raises, that is why nobody can say.

    Raises:
        ValueError: clips that it does not take.
    """
    try:
        found = judge.judge(clips)
        if len(found) != len(clips):
            raise RuntimeError(f"it gave {len(found)} judgements of {len(clips)} clips")
    except ValueError:
        raise  # a mistake of ours or of the user's, which asking again would not mend
    except Exception as error:
        return [Judgement(None, f"the judge failed: {type(error).__name__}: {error}")] * len(clips)
    return found


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
