"""How long it takes to begin: import, ``gymnasium.make``, first step; in fresh processes, on a warm disk."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping

from engine.bench import Bench
from engine.section import Bar, Figures, Rows, Section

PACKAGES = ("torch", "diffusers", "transformers", "tensordict", "scipy", "v2w_gym")
SCRIPT = """
import json, sys, time
taken, since = {}, time.perf_counter()
def lap(name):
    global since
    now = time.perf_counter()
    taken[name], since = 1e3 * (now - since), now
import gymnasium
lap("import_gymnasium_ms")
import v2w_gym
lap("import_v2w_gym_ms")
print("make", file=sys.stderr, flush=True)
env = gymnasium.make(sys.argv[1], **json.loads(sys.argv[2]))
lap("make_ms")
print("use", file=sys.stderr, flush=True)
env.reset(seed=0)
env.step(env.action_space.sample())
lap("first_use_ms")
print(json.dumps(taken))
"""
_IMPORT = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\w+)", re.MULTILINE)


def measure(bench: Bench) -> Figures:
    runs = [_process(bench)[0] for _ in range(min(bench.rounds, 5))]
    taken = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    make_s, use_s = taken.pop("make_ms") / 1e3, taken.pop("first_use_ms") / 1e3
    return taken | {"make_s": make_s, "first_reset_and_step_s": use_s} | _imports(bench)


def _imports(bench: Bench) -> Figures:
    """Where the time goes when the interpreter takes down how long each module ran on import."""
    taken, log = _process(bench, "-X", "importtime")
    before_use, use = log.split("\nuse\n")
    figures: Figures = {}
    for phase, lines in (("make", before_use.split("\nmake\n")[1]), ("first_use", use)):
        spent = dict.fromkeys((*PACKAGES, "others"), 0.0)
        for microseconds, package in _IMPORT.findall(lines):
            spent[package if package in PACKAGES else "others"] += int(microseconds) / 1e3
        figures |= {f"{phase}_import_{package}_ms": ms for package, ms in spent.items()}
        figures[f"{phase}_without_imports_ms"] = taken[f"{phase}_ms"] - sum(spent.values())
    return figures


def _process(bench: Bench, *options: str) -> tuple[Figures, str]:
    """Milliseconds of the script's parts, and what it wrote to stderr."""
    command = [sys.executable, "-P", *options, "-c", SCRIPT, *bench.typed(device=bench.device)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"a fresh process could not make the environment:\n{done.stderr}")
    return json.loads(done.stdout), done.stderr


def rows(figures: Mapping[str, float]) -> Rows:
    table = [["", "gymnasium.make", "first reset and step"]]
    table.append(["whole", *(f"{figures[key]:.2f} s" for key in ("make_s", "first_reset_and_step_s"))])
    for text, key in (
        *((f"import {package}", f"import_{package}") for package in (*PACKAGES, "others")),
        ("the rest", "without_imports"),
    ):
        table.append([text, *(f"{figures[f'{phase}_{key}_ms']:.0f} ms" for phase in ("make", "first_use"))])
    before = [[f"import {p}", f"{figures[f'import_{p}_ms']:.1f} ms", ""] for p in ("gymnasium", "v2w_gym")]
    return [*table, ["", "", ""], *before]


SECTION = Section(
    "start",
    "Time to begin, in a fresh process",
    measure,
    rows,
    (Bar("gymnasium.make, seconds", "make_s", most=2),),
    "The model is loaded at the first reset. The parts are those of one further process, in which the\n"
    "interpreter takes the time of every import: what a package's own modules ran, whoever asked for them.",
)
