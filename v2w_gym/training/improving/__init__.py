"""Rounds of play in reality, fine-tuning of the world on it, and imagination in the new world."""
