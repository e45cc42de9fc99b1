"""What a training tells: a line of JSON per update, a learning curve, TensorBoard where it is wanted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_YOUNG = 20.0  # seconds


def write_whole(path: Path, text: str) -> None:
    """Write a file that a kill leaves as it was or as it shall be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


class Journal:
    """Writes into a folder; what was written after the checkpoint that a run goes on from is dropped.

    Args:
        out: the folder.
        update: how many updates the run has made so far.
        tensorboard: whether to write events for TensorBoard, too.

    Raises:
        ImportError: TensorBoard is wanted and not installed.
    """

    def __init__(self, out: Path, update: int, tensorboard: bool = False) -> None:
        self.path, self.picture = out / "progress.jsonl", out / "progress.png"
        self._events = _events(out / "tensorboard", update) if tensorboard else None
        kept = [line for line in self.lines() if line["update"] <= update] if update else []
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._drawn = time.monotonic()
        self._minutes = max((line["minutes"] for line in kept), default=0.0)

    @property
    def minutes(self) -> float:
        """How long the run had taken when it was last stopped."""
        return float(self._minutes)

    def lines(self) -> list[dict[str, Any]]:
        """All whole lines so far; a full disk or a kill may have cut the last one."""
        if not self.path.exists():
            return []
        return [
            json.loads(line) for line in self.path.read_text().splitlines(keepends=True) if line[-1:] == "\n"
        ]

    def write(self, update: int, values: Mapping[str, Any]) -> None:
        """Add a line."""
        with self.path.open("a") as file:
            file.write(json.dumps({"update": update, **values}) + "\n")
        if self._events is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._events.add_scalar(name, value, update)

    def draw_now_and_then(self) -> None:
        """``draw``, unless the picture is young."""
        if time.monotonic() - self._drawn > _YOUNG:
            self.draw()

    def draw(self) -> None:
        """Draw the learning curve into ``progress.png``."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        lines = self.lines()
        figure, axes = plt.subplots(figsize=(8, 4.5))
        for name, style in (
            ("success", "-"),
            ("look_success", "o-"),
            ("look_confirmed", "s-"),
            ("look_credibility", "--"),
            ("look_real", "*-"),
        ):
            points = [(line["minutes"], line[name]) for line in lines if line.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), style, markersize=4, label=name.replace("_", ": "))
        for line in lines:
            if line.get("alarm"):
                axes.axvline(line["minutes"], color="red", linewidth=1)
        axes.set(
            xlabel="minutes", ylabel="share of episodes", ylim=(-0.02, 1.02), title=self.path.parent.name
        )
        if axes.lines:
            axes.legend(fontsize=8)
        figure.savefig(self.picture, dpi=120, bbox_inches="tight")
        plt.close(figure)
        self._drawn = time.monotonic()

    def close(self) -> None:
        """Draw, and finish the events."""
        self.draw()
        if self._events is not None:
            self._events.close()


def _events(folder: Path, update: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            'tensorboard: true needs TensorBoard: pip install "v2w_gym[tensorboard]"'
        ) from error
    return SummaryWriter(str(folder), purge_step=update + 1)
