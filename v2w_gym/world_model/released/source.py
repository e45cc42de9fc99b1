"""Where a model comes from: a world folder, the hub, or a checkpoint file that is converted first."""

from __future__ import annotations

from pathlib import Path


def located(source: str | Path, config: str | Path | None = None) -> Path:
    """The world folder that ``source`` means."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(source)))
