"""What a busy neighbour costs: the environment beside another program, with long and with short waits."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack

from engine.bench import Bench
from engine.section import Bar, Figures, Rows, Section
from v2w_gym.cli import SPINS

SLOTS = 32
SCRIPT = """
import json, sys, time
import gymnasium, numpy, v2w_gym
envs = gymnasium.make_vec(sys.argv[1], **json.loads(sys.argv[2])).unwrapped
envs.reset(seed=0)
action = numpy.zeros(envs.action_space.shape, numpy.float32)
envs.step(action)
print("ready", flush=True)
for count in sys.stdin:
    since = time.perf_counter()
    for _ in range(int(count)):
        envs.step(action)
    print((time.perf_counter() - since) / int(count), flush=True)
"""
BUSY = "while True: pass"
KINDS = {"usual": None, "patient": SPINS}  # what GOMP_SPINCOUNT is


class Stepper:
    """A process that steps its environments when it is told to, and says how long a step took."""

    def __init__(self, bench: Bench, spins: str | None) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
        environment |= {} if spins is None else {"GOMP_SPINCOUNT": spins}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SCRIPT, *bench.typed(num_envs=SLOTS)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._line() != "ready":
            raise SystemExit("a fresh process could not make the environments; what it wrote stands above")

    def step_s(self, count: int) -> float:
        """Seconds of a step, the mean over ``count``."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def measure(bench: Bench) -> Figures:
    count = 1 if bench.quick else 3
    taken: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        steppers: dict[str, Stepper] = {}
        for kind, spins in KINDS.items():
            steppers[kind] = Stepper(bench, spins)
            stack.callback(steppers[kind].process.kill)
        for turn in range(min(bench.rounds, 5)):
            for around in ("alone", "beside"):
                other = subprocess.Popen([sys.executable, "-c", BUSY]) if around == "beside" else None
                for kind in list(KINDS)[:: 1 if turn % 2 else -1]:
                    taken.setdefault((kind, around), []).append(steppers[kind].step_s(count))
                if other is not None:
                    other.kill()
                    other.wait()
    figures = {f"{k}_{a}_steps_per_s": SLOTS / statistics.median(s) for (k, a), s in taken.items()}
    for around in ("alone", "beside"):
        pairs = zip(taken["usual", around], taken["patient", around], strict=True)
        figures[f"patient_over_usual_{around}_ratio"] = statistics.median(u / p for u, p in pairs)
    return figures


def rows(figures: Mapping[str, float]) -> Rows:
    table = [["steps per second, 32 slots", "as usual", "short waits", "gain"]]
    for text, around in (("alone", "alone"), ("beside a program that keeps one core busy", "beside")):
        speeds = [f"{figures[f'{kind}_{around}_steps_per_s']:.0f}" for kind in KINDS]
        table.append([text, *speeds, f"{figures[f'patient_over_usual_{around}_ratio']:.2f}"])
    return table


SECTION = Section(
    "neighbours",
    "What does another busy program cost?",
    measure,
    rows,
    (
        Bar("gain of short waits beside a busy program", "patient_over_usual_beside_ratio", least=1.5),
        Bar("the same alone", "patient_over_usual_alone_ratio", least=0.95),
    ),
    "Threads that have done their part wait for the others by turning on the spot, which takes the core\n"
    f"from the one that they wait for. `v2w` tells GNU OpenMP to turn {SPINS} times at most, then to sleep.",
)
