"""A toy world's contract, and a policy that says what it is told to."""

import numpy as np

from v2w_gym.envs.arm import arm_spec
from v2w_gym.envs.domains import RT1_ACTIONS
from v2w_gym.envs.world import ActionSpec, DetectorSpec, WorldConfig
from v2w_gym.policies.contract import ActionContract, world_contract

SPEC = ActionSpec(
    names=("dx", "dy", "gripper"),
    low=(-0.04, -0.02, -1.0),
    high=(0.04, 0.02, 1.0),
    unit=("metres per action", "metres per action", "1"),
    frame="world",
    mode="delta",
    gripper="closing",
    data="drawer",
)
CONFIG = WorldConfig("toy", 0, (48, 48), 20.0, 6, 4, SPEC, ("close the drawer",), DetectorSpec("none"))
WORLD = world_contract(CONFIG)
RT1 = ActionContract.of_spec(RT1_ACTIONS, 3.0)
ARM = ActionContract.of_spec(arm_spec("openness"), 3.0)


class Says:
    """Returns its rows, one after the other; notes what it is told."""

    def __init__(self, contract, *rows):
        self.contract, self.rows, self.asked, self.told = contract, list(rows), 0, []

    def reset(self, instruction, slots):
        self.told.append((list(instruction), list(slots)))

    def seed(self, seeds):
        self.told.append(list(seeds))

    def act(self, observation):
        self.asked += 1
        row = self.rows[(self.asked - 1) % len(self.rows)]
        return np.tile(np.asarray(row, np.float32), (len(observation["pixels"]), 1))


SEEN = {"pixels": np.zeros((2, 48, 48, 3), np.uint8)}


def values(contract, numbers):
    gain, shift = contract.normaliser.line(len(contract.names))
    return np.asarray(numbers) * gain + shift
