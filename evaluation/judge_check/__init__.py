"""What a judge of clips is worth: labelled clips, and clips made to mislead it (``v2w judge-check``)."""

from v2w_gym.evaluation.judge_check.check import JudgeCheckConfig, check_judge
from v2w_gym.evaluation.judge_check.text import format_card

__all__ = ["JudgeCheckConfig", "check_judge", "format_card"]
