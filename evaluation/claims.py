"""Who runs what, when several processes share a ledger."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout


class Claims:
    """Batches that are being run, as locks that the system lets go of when their process ends, however.

    They save double work and nothing hangs on them: two processes that run the same episode leave one record.

    Args:
        folder: of the lock files; made when the first batch is claimed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @contextlib.contextmanager
    def claim(self, policy: str, starts: Sequence[str]) -> Iterator[bool]:
        """Whether the batch is this process's to run, which keeps it while the context lasts."""
        name = hashlib.sha256("\n".join([policy, *starts]).encode()).hexdigest()[:16]
        self.folder.mkdir(exist_ok=True)
        lock = FileLock(self.folder / f"{name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def clear(self) -> None:
        """Remove the folder, once nothing is left to run."""
        shutil.rmtree(self.folder, ignore_errors=True)
