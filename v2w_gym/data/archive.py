"""Arrays from ``.npz`` and ``.npy`` files that anybody may have made.

numpy sets memory aside for what a header claims before it reads, and unpacks whatever a few kilobytes swell
to. So headers are held against the size of the file, and sizes against a limit, before anything is read.
"""

from __future__ import annotations

import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy.lib.format as npy
import numpy.typing as npt

from v2w_gym.wire.content import check_content

MOST_BYTES = 4 * 2**30
"""What the arrays of one file may take, in bytes: 8,700 frames of 320x512, or 349,000 of 64x64."""

_UNDERSTOOD = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_LONGEST = 300  # letters of a reason: some quote whole headers
_DAMAGE = (  # whatever a damaged file raises within zipfile, zlib and numpy
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(
    path: str | Path, names: Collection[str] | None = None, most: int = MOST_BYTES
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an ``.npz`` file.

    Args:
        path: the file.
        names: read these alone, as far as they are there; None reads all.
        most: how many bytes they may take in memory.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, claims what it does not hold, is too large, or holds something else than
            plain arrays.
    """
    with _refusing(path), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = {name: info for name, info in members.items() if names is None or name in names}
        for name, info in wanted.items():
            if info.compress_type not in _UNDERSTOOD or info.flag_bits & _ENCRYPTED:
                raise ValueError(f"{name} is packed in a way that numpy does not use")
            with archive.open(info) as stream:
                most -= _claimed(name, stream, info.file_size, most)
        arrays = {}
        for name, info in wanted.items():
            with archive.open(info) as stream:
                arrays[name] = _array(stream)
        return arrays


def array_names(path: str | Path) -> list[str]:
    """What the arrays of an ``.npz`` file are called.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged.
    """
    with _refusing(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_array(path: str | Path, most: int = MOST_BYTES) -> npt.NDArray[Any]:
    """The array of an ``.npy`` file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as of :func:`read_arrays`.
    """
    with _refusing(path), Path(path).open("rb") as stream:
        _claimed("it", stream, os.fstat(stream.fileno()).st_size, most)
        stream.seek(0)
        return _array(stream)


def _array(stream: IO[bytes]) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = npy.read_array(stream, allow_pickle=False)
    if array.dtype.kind in "bU":
        check_content(array.tobytes(), array.dtype)
    return array


def _claimed(name: str, stream: IO[bytes], size: int, most: int) -> int:
    """How many bytes the array of ``stream`` takes; raises unless the stream has just as many."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} is of version {version} of numpy's format, expected (1, 0) or (2, 0)")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject or dtype.names is not None or dtype.itemsize == 0:
        raise ValueError(f"{name} holds {dtype}, expected plain numbers or text")
    claimed, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or claimed != held:
        raise ValueError(f"{name} claims {dtype} {str(shape)[:80]}, but holds {held:,} bytes")
    if claimed > most:
        raise ValueError(f"{name} would take {claimed:,} bytes, more than the {most:,} left for this file")
    return claimed


@contextmanager
def _refusing(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        why = str(error)[:_LONGEST]
        raise ValueError(f"{path} is damaged, or holds something else than plain arrays ({why})") from error
