"""Served environments against a local batch: steps of as many sessions, each in its own thread, in turns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import numpy.typing as npt

from engine.bench import Bench
from engine.clock import Call, in_turns
from engine.section import Figures, Rows, Section
from v2w_gym.envs.remote import RemoteEnv

SESSIONS = (1, 8, 32)
LIMIT_S = 10.0


def measure(bench: Bench) -> Figures:
    figures = Figures()
    with served(bench) as url:
        for count in SESSIONS:
            figures |= _measured(bench, url, count)
    return figures


@contextmanager
def served(bench: Bench) -> Iterator[str]:
    """The address of a server in another process, whose episodes do not end."""
    command = [sys.executable, "-m", "v2w_gym", "serve", "--world", bench.name, "--device", bench.device]
    command += ["--port", "0", "--slots", str(max(SESSIONS))]
    endless = ["terminate_on_success=false", "horizon=1000000"]
    with subprocess.Popen([*command, *endless], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        try:
            yield line.split(" at ")[1].split(";")[0]
        finally:
            server.terminate()


def _measured(bench: Bench, url: str, count: int) -> Figures:
    envs, local_actions, actions = bench.environment(count), bench.env_actions(count), bench.actions(count)
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(count))
        sessions = [stack.enter_context(RemoteEnv(url, timeout_s=600)) for _ in range(count)]
        list(threads.map(lambda pair: pair[1].reset(seed=pair[0]), enumerate(sessions)))
        calls: dict[str, Call] = {
            "local": partial(envs.step, local_actions),
            "served": lambda: list(threads.map(_step, sessions, actions)),
        }
        turns = in_turns(calls, 2 * bench.rounds, LIMIT_S)
    return {
        f"local_sessions_{count}_ms": turns.ms("local"),
        f"served_sessions_{count}_ms": turns.ms("served"),
        f"served_sessions_{count}_per_s": 1e3 * count / turns.ms("served"),
        f"served_over_local_sessions_{count}_ratio": turns.ratio("served", "local"),
    }


def _step(session: RemoteEnv, action: npt.NDArray[np.float32]) -> None:
    session.step(action)


def rows(figures: Mapping[str, float]) -> Rows:
    table = [["sessions", *map(str, SESSIONS)]]
    for text, key in (
        ("a local step of the batch, ms", "local_sessions_{}_ms"),
        ("a step of every session, ms", "served_sessions_{}_ms"),
        ("served steps per second", "served_sessions_{}_per_s"),
        ("time served over local", "served_over_local_sessions_{}_ratio"),
    ):
        table.append([text, *(f"{figures[key.format(count)]:.2f}" for count in SESSIONS)])
    return table


SECTION = Section(
    "served",
    "Steps of sessions on a server in another process, against one local batch of as many slots",
    measure,
    rows,
    note="A client thread per session; frames come back over a websocket on loopback.",
)
