"""What has been done: a file of results per round, one step after the other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from v2w_gym.training.imagination.journal import write_whole


def write_json(path: Path, values: Any) -> None:
    """Write a file that a reader never sees half of."""
    write_whole(path, json.dumps(values, indent=1) + "\n")


class Notes:
    """Steps whose results are written down when they are done, and not done twice.

    Args:
        path: a JSON file: step name to its result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def once(self, name: str, work: Callable[[], Mapping[str, Any] | None]) -> dict[str, Any] | None:
        """The result of a step, from the file if it is there.

        Args:
            name: of the step.
            work: does it; None says that it is not done yet. What it gets done before it is killed it must
                keep itself.

        Returns:
            The result with the ``minutes`` of its last start, or None.
        """
        if name not in self.steps:
            began = time.monotonic()
            result = work()
            if result is None:
                return None
            self.steps[name] = {**result, "minutes": round((time.monotonic() - began) / 60, 3)}
            write_json(self.path, self.steps)
        return self.steps[name]

    @property
    def minutes(self) -> float:
        """Of all steps."""
        return float(sum(step["minutes"] for step in self.steps.values()))
