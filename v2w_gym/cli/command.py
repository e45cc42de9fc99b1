"""What a sub-command of ``v2w`` is."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One sub-command.

    Attributes:
        help: one line.
        add_arguments: declares its arguments.
        run: does the work and returns the exit code; ``typed`` of its arguments is the whole command line.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
