"""Statistics of rankings: pure functions of numbers, on numpy and scipy alone.

An undefined value (correlation with a constant, agreement of a single policy) is NaN, never a made-up number.
Arguments that look alike are passed by name.
"""

from v2w_gym.evaluation.stats.agreement import METRICS, RealOutcomes, agreement
from v2w_gym.evaluation.stats.correlation import kendall, mmrv, pearson, regret, spearman
from v2w_gym.evaluation.stats.intervals import CONFIDENCE, UNDEFINED, Estimate, clopper_pearson, wilson
from v2w_gym.evaluation.stats.sequential import SequentialRanking, Standing

__all__ = [
    "CONFIDENCE",
    "METRICS",
    "UNDEFINED",
    "Estimate",
    "RealOutcomes",
    "SequentialRanking",
    "Standing",
    "agreement",
    "clopper_pearson",
    "kendall",
    "mmrv",
    "pearson",
    "regret",
    "spearman",
    "wilson",
]
