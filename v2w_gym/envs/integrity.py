"""Hashes of a world's files: written when a world is built, checked when a file is loaded."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

WORLD_FILE = "world.json"


def _sha256(path: Path) -> str:
    seen = path.stat()
    return _digest(path.resolve(), seen.st_size, seen.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _digest(path: Path, size: int, changed: int) -> str:
    """Of the file as it was when it had that size and that time of change; gigabytes take seconds."""
    del size, changed
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> Iterator[str]:
    """Files that make up the world, as posix names; notes (``*.md``) and hidden files do not count."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith((".", "__")) for part in name.parts)
        if path.is_file() and not hidden and path.suffix != ".md" and name.as_posix() != WORLD_FILE:
            yield name.as_posix()


def write_hashes(folder: str | Path) -> dict[str, str]:
    """Hash every file of the world in ``folder`` into its ``world.json``; the last act of building a world.

    Returns:
        Relative file name to sha256, as written.

    Raises:
        FileNotFoundError: the folder has no ``world.json`` yet.
    """
    root = Path(folder)
    target = root / WORLD_FILE
    if not target.is_file():
        raise FileNotFoundError(f"no {WORLD_FILE} in {root}; write it first, then its hashes")
    values = json.loads(target.read_text())
    values["hashes"] = {name: _sha256(root / name) for name in _files(root)}
    partial = target.with_name(f".{WORLD_FILE}.partial")  # hidden: one that is left behind does not count
    partial.write_text(json.dumps(values, indent=2) + "\n")
    os.replace(partial, target)
    return dict(values["hashes"])


def verify(folder: Path, hashes: Mapping[str, str], parts: tuple[str, ...]) -> None:
    """Check the files below ``parts`` (top-level names) against their hashes; no hashes, nothing to check.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is truncated, from elsewhere, or not listed.
    """
    if not hashes:
        return
    cure = "fetch the world again, or, if you changed it on purpose, run v2w_gym.write_hashes on its folder"
    expected = {name for name in hashes if name.split("/")[0] in parts}
    present = {name for name in _files(folder) if name.split("/")[0] in parts}
    if missing := sorted(expected - present):
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}, which {WORLD_FILE} lists; {cure}")
    if foreign := sorted(present - expected):
        raise ValueError(f"{folder} holds {', '.join(foreign)}, which {WORLD_FILE} does not list; {cure}")
    for name in sorted(expected):
        path = folder / name
        digest = _sha256(path)
        if digest != hashes[name]:
            raise ValueError(
                f"{path} is truncated or belongs to another world: {path.stat().st_size} bytes with "
                f"sha256 {digest[:12]}..., expected {hashes[name][:12]}...; {cure}"
            )
