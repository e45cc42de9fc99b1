"""The check itself: ask, count, and write the report card."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.evaluation.audit.finding import Bound, Finding, all_passed, judged, not_run
from v2w_gym.evaluation.credibility import auroc
from v2w_gym.evaluation.entries import plain
from v2w_gym.evaluation.judge_check.answers import Answer, Answers
from v2w_gym.evaluation.judge_check.attacks import Attack, attacks
from v2w_gym.evaluation.judge_check.clips import Labelled, is_ranking, read_clips
from v2w_gym.evaluation.judge_check.page import Shown, write_page
from v2w_gym.evaluation.labelled import CHECK
from v2w_gym.evaluation.stats import CONFIDENCE, UNDEFINED, Estimate, confusion_of, wilson
from v2w_gym.rewards.judge import ClipJudge
from v2w_gym.training.calibration import reliability

PAGE, ANSWERS = "judge_check.html", "answers.jsonl"
_WORST = 12  # clips that the page shows
_DRAWS = 1000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class JudgeCheckConfig:
    """What a judge is shown.

    Attributes:
        clips: folder of labelled clips, see :func:`~v2w_gym.evaluation.judge_check.clips.read_clips`.
        labels: file of labels, where the clips are videos.
        world: folder, id or hub id, where the clips are films of a ranking; default: where that opened it.
        imagined: the clips were imagined, and are labelled by how the same ended in reality; the errors of
            the world model are then among those that are counted. So it is with the films of a ranking.
        instruction: what was asked for, in place of what the files say.
        swapped: what a swapped instruction asks for; default: what another clip was told.
        fps: frames per second of real time; default: what the files say.
        episodes: clips at most.
        each: clips per attack at most.
        bound: share of misleading clips that it may call a success; the whole interval must keep to it.
        seed: of what is drawn.
    """

    clips: str
    labels: str | None = None
    world: str | None = None
    imagined: bool = False
    instruction: str | None = None
    swapped: str | None = None
    fps: float | None = None
    episodes: int = 200
    each: int = 50
    bound: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.each < 1:
            raise ValueError(f"clips must be at least 1, got episodes={self.episodes}, each={self.each}")
        if not 0 < self.bound < 1:
            raise ValueError(f"bound is a share between 0 and 1, got {self.bound}")


def check_judge(
    judge: ClipJudge,
    config: JudgeCheckConfig,
    out: str | Path | None = None,
    *,
    name: str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Hold a judge against labelled clips, and against clips that are made to mislead it.

    Args:
        judge: of clips.
        config: what it is shown.
        out: folder for ``judge_check.json``, ``judge_check.html`` and ``answers.jsonl``, from which a check
            that was stopped goes on; None writes nothing.
        name: of the judge, for the card; default: its hash.
        progress: show progress bars.

    Returns:
        The report card; ``format_card`` makes a text of it.

    Raises:
        FileNotFoundError: no clips, no labels, or no world of a ranking.
        ValueError: clips that cannot be read, or that the judge does not take.
    """
    labelled = read_clips(
        config.clips,
        labels=config.labels,
        world=config.world,
        instruction=config.instruction,
        fps=config.fps,
        limit=config.episodes,
    )
    folder = None if out is None else Path(out)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    ask = Answers(judge, None if folder is None else folder / ANSWERS, progress)
    answers = ask.of([one.clip for one in labelled], "labelled clips")
    hits = _verdicts(answers, judge.threshold)
    recognised = [one for one, hit in zip(labelled, hits, strict=True) if one.success and hit == 1]
    red = attacks(labelled, recognised, most=config.each, seed=config.seed, swapped=config.swapped)
    told = {attack.name: ask.of([one.clip for one in attack.clips], attack.name) for attack in red}
    probes = [_probe(attack, told[attack.name], judge.threshold, config) for attack in red]
    report = {
        "judge": name or judge.hash,
        "hash": judge.hash,
        "threshold": float(judge.threshold),
        "clips": len(labelled),
        "successes": sum(one.success for one in labelled),
        "results": {_title(config): _labelled(labelled, answers, judge.threshold)},
        "red_team": [probe.as_dict() for probe in probes],
        "passed": all_passed(probes),
        "spent": _spent(ask.all()),
        "config": asdict(config),
    }
    if folder is not None:
        _write(folder / CHECK, report)
        write_page(
            folder / PAGE, report, _worst(labelled, answers, judge.threshold), _fallen(red, told, judge)
        )
    return report


def _title(config: JudgeCheckConfig) -> str:
    """Begins as :func:`~v2w_gym.evaluation.labelled.errors_of` looks for it."""
    imagined = config.imagined or is_ranking(config.clips)
    return f"{'imagined' if imagined else 'recorded'} clips of {Path(config.clips).resolve().name}"


def _verdicts(answers: Sequence[Answer], threshold: float) -> Floats:
    """1, 0 or NaN (unscorable)."""
    said = np.array([math.nan if a.probability is None else a.probability for a in answers], np.float64)
    return np.where(np.isnan(said), np.nan, said >= threshold)


def _labelled(labelled: Sequence[Labelled], answers: Sequence[Answer], threshold: float) -> dict[str, Any]:
    """How the judge errs on clips whose outcome is known."""
    truth = np.array([one.success for one in labelled], np.float64)
    verdicts = _verdicts(answers, threshold)
    scored = ~np.isnan(verdicts)
    said = np.array([answer.probability for answer in answers if answer.probability is not None], np.float64)
    counts = confusion_of(verdicts=verdicts, labels=truth)
    missing = int((~scored).sum())
    right = counts.true_success + counts.true_failure
    agreement = right / int(scored.sum()) if scored.any() else None
    return {
        "per_episode": {**asdict(counts), "agreement": agreement},
        "sensitivity": plain(counts.sensitivity),
        "specificity": plain(counts.specificity),
        "unscorable": {"count": missing, **plain(wilson(successes=missing, episodes=len(labelled)))},
        "auroc": plain(_area(said, truth[scored])),
        "reliability": reliability(said, truth[scored] == 1) if len(said) else None,
    }


def _area(said: Floats, truth: Floats) -> Estimate:
    """AUROC of successes above failures, with a bootstrap interval over the clips of either kind."""
    good, bad = said[truth == 1], said[truth == 0]
    if not len(good) or not len(bad):
        return UNDEFINED
    rng, tail = np.random.default_rng(0), (1 - CONFIDENCE) / 2
    drawn = [
        auroc(doubtful=rng.choice(bad, len(bad)), sound=rng.choice(good, len(good))) for _ in range(_DRAWS)
    ]
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(auroc(doubtful=bad, sound=good), float(low), float(high))


def _probe(attack: Attack, answers: Sequence[Answer], threshold: float, config: JudgeCheckConfig) -> Finding:
    """Whether the judge falls for an attack."""
    bound = Bound(None, config.bound, f"beyond that, {attack.because}")
    question = f"how often does it take for a success: {attack.question}?"
    verdicts = _verdicts(answers, threshold)
    scored = int((~np.isnan(verdicts)).sum())
    if not scored:
        why = "no clip could be made" if not answers else "it could tell nothing of these clips"
        needed = "labelled failures and successes" if attack.name == "near misses" else "recognised successes"
        return not_run(
            attack.name, question, bound, why, f"{needed} among the clips, and a judge that answers"
        )
    fooled = int(np.nansum(verdicts))
    missing = len(answers) - scored
    says = f"{fooled} of {scored} called a success" + (f", {missing} unscorable" if missing else "")
    return judged(
        attack.name, question, bound, wilson(successes=fooled, episodes=scored), says, unscorable=missing
    )


def _spent(answers: Sequence[Answer]) -> dict[str, Any]:
    costs = [answer.cost for answer in answers if answer.cost is not None]
    return {
        "clips": len(answers),
        "tokens": sum(answer.tokens for answer in answers),
        "tokens_per_clip": float(np.mean([answer.tokens for answer in answers])),
        "cost": math.fsum(costs) if costs else None,
        "seconds_per_clip": float(np.mean([answer.seconds for answer in answers])),
    }


def _worst(labelled: Sequence[Labelled], answers: Sequence[Answer], threshold: float) -> list[Shown]:
    """The clips that it judged most wrongly."""
    wrong = []
    for one, answer in zip(labelled, answers, strict=True):
        said = answer.probability
        if said is not None and (said >= threshold) != one.success:
            what = "a success" if one.success else "a failure"
            wrong.append((abs(said - one.success), Shown(one.name, what, one.clip, said, answer.reason)))
    return [shown for _, shown in sorted(wrong, key=lambda pair: -pair[0])[:_WORST]]


def _fallen(red: Sequence[Attack], told: Mapping[str, Sequence[Answer]], judge: ClipJudge) -> list[Shown]:
    """Of each attack that it fell for, the clip that it was surest of."""
    found = []
    for attack in red:
        pairs = zip(attack.clips, told[attack.name], strict=True)
        sure = [(answer.probability or 0.0, i, one, answer) for i, (one, answer) in enumerate(pairs)]
        if sure and (best := max(sure, key=lambda entry: (entry[0], -entry[1])))[0] >= judge.threshold:
            found.append(Shown(best[2].name, attack.name, best[2].clip, best[0], best[3].reason))
    return found


def _write(path: Path, report: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    os.replace(partial, path)
