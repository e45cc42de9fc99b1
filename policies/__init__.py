"""Policies that see only pixels, and the protocol by which your own joins. Import as ``v2w_gym.policies``."""
