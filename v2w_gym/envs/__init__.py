"""Worlds as Gymnasium environments, single and vectorised."""
