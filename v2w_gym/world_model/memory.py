"""How much memory is free, as the kernel, the container and the card see it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

UNKNOWN = sys.maxsize  # where nothing can be learned, nothing is split or refused
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 of control groups writes a huge number where version 2 writes "max"


def free_bytes(device: torch.device) -> int:
    """Bytes that can be allocated on ``device`` now; ``UNKNOWN`` where it cannot be learned. Never raises.

    On a CUDA card that is what the driver has left and what PyTorch's allocator holds unused; elsewhere what
    Linux has left, or the container if that is less. Files kept in memory that would make way count as free,
    swap does not.
    """
    try:
        if device.type == "cuda":
            left, _ = torch.cuda.mem_get_info(device)
            return left + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return min([_system(), *(group.left() for group in limits(PROC, CGROUPS))])
    except (OSError, ValueError, LookupError, AttributeError, RuntimeError):
        return UNKNOWN


def _system() -> int:
    lines = (PROC / "meminfo").read_text().splitlines()  # Linux alone has it
    return int(next(line for line in lines if "MemAvailable" in line).split()[1]) * 1024


@dataclass(frozen=True)
class ControlGroup:
    """One group of processes whose memory Linux may limit; names of its files differ by version."""

    folder: Path
    limit: str
    usage: str
    prefix: str

    def left(self) -> int:
        """Limit less usage, with the page cache given back; ``UNKNOWN`` without a limit."""
        text = (self.folder / self.limit).read_text().strip()
        if text == "max" or int(text) >= _UNLIMITED:
            return UNKNOWN
        lines = (line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        files = {self.prefix + "inactive_file", self.prefix + "active_file"}
        cache = sum(int(value) for name, value, *_ in lines if name in files)
        return max(0, int(text) - int((self.folder / self.usage).read_text()) + cache)


@functools.cache
def limits(proc: Path, cgroups: Path) -> tuple[ControlGroup, ...]:
    """Every group that holds this process, its own first; each may have a limit of its own."""
    table = proc / "self" / "cgroup"
    lines = table.read_text().splitlines() if table.exists() else []
    return tuple(group for line in lines for group in _groups(line, cgroups))


def _groups(line: str, cgroups: Path) -> Iterator[ControlGroup]:
    _, controllers, path = line.split(":", 2)
    if not controllers:
        root, names = cgroups, ("memory.max", "memory.current", "")
    elif "memory" in controllers.split(","):
        root, names = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
    else:
        return
    own = PurePosixPath(path.lstrip("/"))  # from inside a container it may name a folder that is not there
    for folder in (root / group for group in (own, *own.parents)):
        if (folder / names[0]).exists():
            yield ControlGroup(folder, *names)
