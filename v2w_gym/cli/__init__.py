"""The command ``v2w``. Each sub-command imports what it needs when it runs: ``v2w --help`` is instant.

To add one: write ``_add_NAME(parser)``, ``_NAME(arguments) -> exit code``, and a line in its module's table.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from v2w_gym.cli.audit import AUDIT
from v2w_gym.cli.build import BUILD
from v2w_gym.cli.convert import CONVERT
from v2w_gym.cli.credibility import CREDIBILITY
from v2w_gym.cli.imagine import IMAGINE
from v2w_gym.cli.improve import IMPROVE
from v2w_gym.cli.judge_check import JUDGE_CHECK
from v2w_gym.cli.label import LABEL
from v2w_gym.cli.plan import PLAN
from v2w_gym.cli.report import REPORT
from v2w_gym.cli.rescore import RESCORE
from v2w_gym.cli.serve import SERVE
from v2w_gym.cli.serve_policy import SERVE_POLICY
from v2w_gym.cli.use import USE

USER_ERROR, STOPPED = 2, 130
SPINS = "1000"
"""How often a thread that waits for others looks again before it sleeps. With GNU OpenMP's own choice all
takes twice as long beside another busy program; alone, this one costs 3 % (``benchmarks/run.py``)."""
COMMANDS = USE | REPORT | RESCORE | CONVERT | BUILD | PLAN | AUDIT | CREDIBILITY | JUDGE_CHECK
COMMANDS |= SERVE_POLICY | SERVE | LABEL | IMAGINE | IMPROVE
RESUMED = {"rank", "presets", "rescore", "judge-check", "record", "train", "imagine", "improve"}
"""Commands that keep what they have done, and go on from it."""


def parser() -> argparse.ArgumentParser:
    """What reads the command line: one sub-parser per command."""
    made = argparse.ArgumentParser(prog="v2w", description="Vid2World worlds as environments.")
    made.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = made.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help, description=command.help))
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments; default: those of the process.

    Returns:
        0, 1 if all policies or a probe failed, 2 after an error of the user's making, 130 if stopped by the
        keyboard.
    """
    given = sys.argv[1:] if argv is None else argv
    arguments: dict[str, Any] = vars(parser().parse_args(given))
    arguments["typed"] = shlex.join(["v2w", *given])
    name, traceback = arguments.pop("command"), arguments.pop("traceback")
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # in time: torch reads it when a command imports it
    try:
        return COMMANDS[name].run(argparse.Namespace(**arguments))
    except (ValueError, OSError, ImportError) as error:
        if traceback:
            raise
        print(f"v2w: error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        how = "; the same command goes on from here" if name in RESUMED else ""
        print(f"\nstopped{how}", file=sys.stderr)
        return STOPPED
