"""Ranking policies in imagination. Import as ``v2w_gym.evaluation``."""

from v2w_gym.evaluation.ranking import BATCH_SIZE, rank
from v2w_gym.evaluation.table import format_table

__all__ = ["BATCH_SIZE", "format_table", "rank"]
