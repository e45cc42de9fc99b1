"""Ranking policies in imagination. Import as ``v2w_gym.evaluation``."""
