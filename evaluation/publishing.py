"""Everything that a reader of a ranking sees, written into its folder: summary, pictures and report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from v2w_gym.evaluation import report
from v2w_gym.evaluation.page import Sources, write_page

SUMMARY, PAGE = "summary.json", "report.html"


def publish(folder: Path, sources: Sources) -> None:
    """Write ``summary.json``, the pictures and ``report.html``; one process at a time."""
    with FileLock(folder / ".results.lock"):  # another process may have run the last of the episodes, too
        _write(folder / SUMMARY, sources.summary)
        report.draw(sources, folder)
        write_page(folder / PAGE, sources)


def _write(path: Path, summary: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    os.replace(partial, path)
