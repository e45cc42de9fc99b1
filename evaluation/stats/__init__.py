"""Statistics of rankings: pure functions of numbers, on numpy and scipy alone.

An undefined value (correlation with a constant, agreement of a single policy) is NaN, never a made-up number.
Arguments that look alike are passed by name.
"""

from v2w_gym.evaluation.stats.agreement import METRICS, LeaveOneOut, RealOutcomes, agreement, leave_one_out
from v2w_gym.evaluation.stats.calibration import FEWEST, KINDS, Check, Kind, Tried, calibrated, check
from v2w_gym.evaluation.stats.ceiling import noise_ceiling
from v2w_gym.evaluation.stats.corrected import Confusion, confusion_of, prediction_powered, rogan_gladen
from v2w_gym.evaluation.stats.correlation import kendall, mmrv, pearson, regret, spearman
from v2w_gym.evaluation.stats.intervals import CONFIDENCE, UNDEFINED, Estimate, clopper_pearson, wilson
from v2w_gym.evaluation.stats.kappa import cohen_kappa
from v2w_gym.evaluation.stats.paired import Paired, SharedLuck, compare, score_interval, shared_luck
from v2w_gym.evaluation.stats.planning import correlation_of, episodes_needed, visible_gap
from v2w_gym.evaluation.stats.sequential import SequentialRanking, Standing
from v2w_gym.evaluation.stats.tournament import bradley_terry, tie_groups

__all__ = [
    "CONFIDENCE",
    "FEWEST",
    "KINDS",
    "METRICS",
    "UNDEFINED",
    "Check",
    "Confusion",
    "Estimate",
    "Kind",
    "LeaveOneOut",
    "Paired",
    "RealOutcomes",
    "SequentialRanking",
    "SharedLuck",
    "Standing",
    "Tried",
    "agreement",
    "bradley_terry",
    "calibrated",
    "check",
    "clopper_pearson",
    "cohen_kappa",
    "compare",
    "confusion_of",
    "correlation_of",
    "episodes_needed",
    "kendall",
    "leave_one_out",
    "mmrv",
    "noise_ceiling",
    "pearson",
    "prediction_powered",
    "regret",
    "rogan_gladen",
    "score_interval",
    "shared_luck",
    "spearman",
    "tie_groups",
    "visible_gap",
    "wilson",
]
