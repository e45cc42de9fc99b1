"""Policies that see only pixels, and the protocol by which your own joins. Import as ``v2w_gym.policies``."""

from v2w_gym.policies.adapted import Adapted, adapt
from v2w_gym.policies.base import Policy
from v2w_gym.policies.callables import from_callable
from v2w_gym.policies.contract import (
    ActionContract,
    ContractMismatch,
    check_contract,
    with_data,
    world_contract,
)
from v2w_gym.policies.modules import from_module
from v2w_gym.policies.normaliser import Normaliser
from v2w_gym.policies.registry import load, names, resolve
from v2w_gym.policies.repeated import Repeated

__all__ = [
    "ActionContract",
    "Adapted",
    "ContractMismatch",
    "Normaliser",
    "Policy",
    "Repeated",
    "adapt",
    "check_contract",
    "from_callable",
    "from_module",
    "load",
    "names",
    "resolve",
    "with_data",
    "world_contract",
]
