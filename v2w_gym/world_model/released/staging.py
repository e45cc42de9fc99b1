"""A folder that appears whole or not at all, and whose making can be killed and taken up again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from filelock import FileLock
from tqdm import tqdm

if TYPE_CHECKING:
    from v2w_gym.world_model.vid2world import Vid2World

MARKER = ".conversion.json"
FORMAT = 1  # raised whenever a conversion would come out otherwise
_ENDS = 1 << 20


class Staging:
    """The making of ``out`` from ``source``; one process at a time.

    As a context: an error removes what was made so far, a kill or an interrupt leaves it to be taken up.

    Args:
        source: the checkpoint file.
        out: folder to make.
        config: file of sizes, or None.
        asked: whatever else decides what the result is.

    Attributes:
        out: the same.
        partial: where the work is done, beside it.
        done: whether ``out`` is there already, from the same source and the same wishes.

    Raises:
        FileExistsError: ``out`` is there and something else.
        FileNotFoundError: no such source.
    """

    def __init__(
        self, source: Path, out: Path, config: str | Path | None, asked: Mapping[str, str | None]
    ) -> None:
        self.out = out.expanduser().absolute()
        self.partial = self.out.with_name(f"{self.out.name}.partial")
        self.done = False
        self._key = {**fingerprint(source, config), **asked}
        name = hashlib.sha256(str(self.out).encode()).hexdigest()[:16]
        self._lock = FileLock(Path(tempfile.gettempdir()) / f"v2w-convert-{name}.lock")

    def __enter__(self) -> Staging:
        self._lock.acquire()
        try:
            self.done = self.out.exists() and _marked(self.out) == self._key
            if self.out.exists() and not self.done:
                raise FileExistsError(
                    f"{self.out} is there already, and not from this conversion; name another folder, or "
                    f"remove it: rm -r {self.out}"
                )
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, Exception):
            shutil.rmtree(self.partial, ignore_errors=True)
        self._lock.release()

    def write(self, model: Vid2World, progress: bool) -> None:
        """Write what is missing of ``model`` and put the folder in its place.

        Raises:
            OSError: too little disk space.
        """
        if self.partial.exists() and _marked(self.partial) != self._key:
            shutil.rmtree(self.partial)  # of another source, or broken off before it said of which
        sizes = {
            name: sum(tensor.nbytes for tensor in part.state_dict().values())
            for name, part in model.parts().items()
        }
        missing = [name for name in sizes if not (self.partial / name).is_dir()]
        check_space(self.out, sum(sizes[name] for name in missing))
        self.partial.mkdir(parents=True, exist_ok=True)
        (self.partial / MARKER).write_text(json.dumps(self._key))
        bar = tqdm(
            total=sum(sizes.values()), unit="B", unit_scale=True, desc="converting", disable=not progress
        )
        with bar:
            for name, size in sizes.items():
                bar.set_postfix_str(name)
                if name in missing:
                    self._write_part(model, name)
                bar.update(size)
        model.save_settings(self.partial)
        os.replace(self.partial, self.out)

    def _write_part(self, model: Vid2World, name: str) -> None:
        """A part's folder bears its name only when it is whole."""
        unfinished = self.partial / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        model.save_part(name, unfinished)
        os.replace(unfinished / name, self.partial / name)
        unfinished.rmdir()


def check_space(folder: Path, needed: int) -> None:
    """See that ``needed`` bytes, and a little more, fit on the disk that ``folder`` is to lie on.

    Raises:
        OSError: they do not.
    """
    there = next(parent for parent in folder.parents if parent.exists())
    free, wanted = shutil.disk_usage(there).free, needed + (16 << 20)
    if free < wanted:
        raise OSError(
            f"no disk space: {folder} needs {wanted / 1e9:.2f} GB, {there} has {free / 1e9:.2f} GB free; "
            "make room, or choose another place: v2w convert SOURCE OUT, or V2W_CACHE=/other/disk"
        )


def fingerprint(source: Path, config: str | Path | None) -> dict[str, str | int]:
    """What tells one source from another without reading gigabytes: size and both ends.

    The end of a file of torch holds a checksum of every tensor, the beginning of safetensors their names.

    Raises:
        FileNotFoundError: no such file.
    """
    source = source.expanduser()
    if not source.is_file():
        raise FileNotFoundError(f"no checkpoint file at {source}")
    size = source.stat().st_size
    with source.open("rb") as file:
        digest = hashlib.sha256(file.read(_ENDS))
        file.seek(max(size - _ENDS, 0))
        digest.update(file.read())
    sizes = "" if config is None else hashlib.sha256(Path(config).expanduser().read_bytes()).hexdigest()
    return {"format": FORMAT, "bytes": size, "ends": digest.hexdigest(), "config": sizes}


def _marked(folder: Path) -> object:
    try:
        return json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return None
