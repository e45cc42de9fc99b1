"""Processes that tests start and kill: forks, which need not import everything again."""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from test_ledger import record

from v2w_gym.evaluation import rank
from v2w_gym.evaluation.ledger import Ledger

START = multiprocessing.get_context("fork")
BATCH = 4


class Tallied:
    """Constant actions, slowly; each call leaves a byte in a file of the process."""

    def __init__(self, value: float, tally: Path, pause: float) -> None:
        self.value, self.tally, self.pause = value, tally, pause

    def act(self, observation: Mapping[str, Any]) -> Any:
        with (self.tally / str(os.getpid())).open("ab") as file:
            file.write(b".")
        time.sleep(self.pause)
        return np.full((len(observation["pixels"]), 4), self.value, np.float32)


def ranking(world: Path, out: Path, tally: Path, pause: float) -> None:
    """Rank three policies."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    policies = {str(value): Tallied(value, tally, pause) for value in (-0.5, 0.0, 0.5)}
    rank(world, policies, episodes=4, seed=0, batch_size=2, out=out, progress=False)


def appending(path: Path, first: int, done: Connection) -> None:
    """Append batches until killed; tell the number of each batch once it has been kept."""
    warnings.simplefilter("error")
    ledger = Ledger(path)
    number = first
    while True:
        ledger.append([record(number * BATCH + i) for i in range(BATCH)])
        done.send(number)
        number += 1
