"""Stands in for LeRobot, which cannot be installed beside this package on Python 3.11.

It offers, written anew, what ``v2w_gym.policies.lerobot`` calls, with the signatures and the refusals of
LeRobot 7427f3180 (0.6.2), and puts down in ``calls`` what was called, in order.
"""

__version__ = "0.6.2"

calls: list[str] = []
