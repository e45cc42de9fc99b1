"""Bytes that no value of a dtype has: numpy takes them, and fails far from here, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from v2w_gym.wire.errors import WireError

_LAST_LETTER = 0x10FFFF


def check_content(data: bytes, dtype: np.dtype[Any]) -> None:
    """See that booleans are 0 or 1 and that letters are Unicode; other dtypes take all bytes.

    Args:
        data: of an array.
        dtype: of that array.

    Raises:
        WireError: they are not.
    """
    if dtype.kind == "b" and data.strip(b"\0\1"):
        raise WireError("booleans with bytes other than 0 and 1")
    if dtype.kind == "U" and data:
        letters = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if letters.max() > _LAST_LETTER:
            raise WireError("texts with letters beyond Unicode")
