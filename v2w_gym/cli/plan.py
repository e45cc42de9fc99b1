"""``v2w plan``: how many episodes tell two success rates apart, before any is run."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from v2w_gym.cli.command import Command

_CORRELATIONS = (0.2, 0.4, 0.6, 0.8)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("first", type=float, nargs="?", default=0.5, help="success rate of one policy (default: %(default)s)")
    add("second", type=float, nargs="?", default=0.6, help="of the other (default: %(default)s)")
    add("--power", type=float, default=0.8, help="share of rankings that see the gap (default: %(default)s)")
    add(
        "--error",
        type=float,
        default=0.05,
        help="share of rankings that may tell equal policies apart (default: %(default)s)",
    )
    shared = parser.add_mutually_exclusive_group()
    shared.add_argument("--correlation", type=float, help="of outcomes over common starts and noise")
    shared.add_argument(
        "--discordant", type=float, help="instead: share of starts on which exactly one of the two succeeds"
    )
    shared.add_argument(
        "--ledger", type=Path, help="instead: folder of an earlier ranking that tells the correlation"
    )
    add("--episodes", type=int, help="also say which gap so many episodes per policy can show")


def _plan(arguments: argparse.Namespace) -> int:
    from v2w_gym.evaluation.stats import episodes_needed, visible_gap

    first, second, power, error = arguments.first, arguments.second, arguments.power, arguments.error
    known = [(0.0, "unpaired: each policy meets starts and noise of its own"), *_correlations(arguments)]
    lines = [f"episodes per policy to tell success {first:g} from {second:g} {_asked(power, error)}:"]
    for correlation, label in known:
        n = episodes_needed(first=first, second=second, correlation=correlation, power=power, error=error)
        lines.append(f"{n:8d}  {label}")
    if arguments.episodes is not None:
        lines.append(f"{arguments.episodes} episodes per policy tell success {first:g} from")
        for correlation, label in known:
            low, high = visible_gap(
                rate=first, episodes=arguments.episodes, correlation=correlation, power=power, error=error
            )
            lines.append(f"  {_gap(low, high)}  {label.split(':')[0]}")
    lines.append(
        "by the normal approximation with the variances of both rates, two-sided; v2w rank is paired"
    )
    print("\n".join(lines))
    return 0


def _correlations(arguments: argparse.Namespace) -> list[tuple[float, str]]:
    """Correlations between outcomes of one start that are to be shown, and what to say of each."""
    from v2w_gym.evaluation.stats import correlation_of

    first, second = arguments.first, arguments.second
    if arguments.ledger is not None:
        return _from_ledger(arguments.ledger, first, second)
    if arguments.correlation is not None:
        shown = [arguments.correlation]
    elif arguments.discordant is not None:
        shown = [correlation_of(first=first, second=second, discordant=arguments.discordant)]
    else:
        shown = [c for c in _CORRELATIONS if _possible(first, second, c)]
    return [(c, f"paired, correlation {c:.2f} between outcomes of one start") for c in shown]


def _possible(first: float, second: float, correlation: float) -> bool:
    """Whether outcomes of these rates can be so strongly correlated."""
    from v2w_gym.evaluation.stats.planning import difference_variance

    try:
        difference_variance(first=first, second=second, correlation=correlation)
    except ValueError:
        return False
    return True


def _gap(low: float, high: float) -> str:
    below = "nothing below  " if math.isnan(low) else f"{low:.2f} or less"
    above = "nothing above  " if math.isnan(high) else f"{high:.2f} or more"
    return f"{below:12}  {above:12}"


def _asked(power: float, error: float) -> str:
    return f"(power {100 * power:g} %, error {100 * error:g} %)"


def _from_ledger(folder: Path, first: float, second: float) -> list[tuple[float, str]]:
    """Correlations in an earlier ranking: over all its policies, and of the two that share most luck."""
    from v2w_gym.evaluation import outcomes
    from v2w_gym.evaluation.ledger import Ledger
    from v2w_gym.evaluation.stats import compare, shared_luck

    path = folder / "ledger.jsonl" if folder.is_dir() else folder
    if not path.is_file():
        raise FileNotFoundError(f"no ledger at {path}; name the folder that v2w rank --out made")
    records = Ledger(path).records
    policies = sorted({r.policy for r in records})
    table = outcomes.scores(records, policies, sorted({r.start_id for r in records}))
    luck = shared_luck(table)
    if luck.pair is None:
        raise ValueError(
            f"{path} has no two policies whose outcomes vary, so it tells no correlation; give one with "
            "--correlation"
        )
    i, j = luck.pair
    likest = compare(first=table[i], second=table[j]).correlation
    known = [
        (luck.correlation, f"{len(policies)} policies of the ledger", luck.factor),
        (likest, f"{policies[i]} and {policies[j]}", luck.most),
    ]
    return [
        (c, f"paired, correlation {c:.2f} as of {whose} (variance divided by {factor:.2f})")
        for c, whose, factor in known
        if _possible(first, second, c)
    ]


PLAN = {"plan": Command("say how many episodes tell two policies apart", _add_plan, _plan)}
