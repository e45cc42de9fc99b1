"""msgpack with numpy arrays, as openpi defines them (``openpi_client/msgpack_numpy.py``, openpi 15a9616).

An array is a map of byte keys: ``__ndarray__`` (true), ``data`` (bytes in C order), ``dtype`` (numpy's
string, byte order included) and ``shape``. A numpy scalar has ``__npgeneric__`` (true), ``data`` (the plain
value) and ``dtype``; ``np.float64``, ``np.str_`` and ``np.bytes_`` are Python's own kinds to msgpack and
travel as such. Object, void and complex arrays are refused. A map of one's own must not use the two marks as
keys.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.wire.content import check_content
from v2w_gym.wire.errors import WireError
from v2w_gym.wire.structure import LIMITS, Limits, check_structure

ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f(2|4|8|16)|[SU][1-9]\d{0,5}|[mM]8(\[\d*\w+\])?)")
_MOST_AXES = 32
_PLAIN: dict[str, type | tuple[type, ...]] = {
    "b": bool,
    "i": int,
    "u": int,
    "f": (float, int),
    "U": str,
    "S": bytes,
}


def pack(value: Any, limits: Limits = LIMITS) -> bytes:
    """One message.

    Args:
        value: None, bool, int, float, str, bytes, a numpy array or scalar, or lists, tuples and dicts (with
            keys of text or bytes) of these. A tuple comes back as a list.
        limits: how large the message may be.

    Raises:
        WireError: something that cannot be sent, or too much.
        ImportError: msgpack is not installed.
    """
    try:
        packed: bytes = _msgpack().packb(value, default=_packed)
    except WireError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(f"this value cannot be sent: {error}") from error
    check_structure(packed, limits)
    return packed


def unpack(data: bytes, limits: Limits = LIMITS) -> Any:
    """The value of one message; its arrays are writable copies.

    Args:
        data: what :func:`pack`, or openpi, made.
        limits: how large the message may be.

    Raises:
        WireError: these bytes are no message, or too much.
        ImportError: msgpack is not installed.
    """
    if not isinstance(data, bytes):
        raise WireError(f"a message must be bytes, got {type(data).__name__}")
    msgpack = _msgpack()
    check_structure(data, limits)
    try:
        return msgpack.unpackb(data, object_hook=_unpacked)
    except WireError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"these bytes are no message: {error}") from error


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError as error:
        raise ImportError('msgpack is not installed; pip install "v2w_gym[remote]"') from error
    return msgpack


def _packed(value: Any) -> dict[bytes, Any]:
    if not isinstance(value, np.ndarray | np.generic):
        raise WireError(
            f"a value of type {type(value).__name__} cannot be sent; expected None, bool, int (64 bits), "
            "float, str, bytes, numpy arrays and scalars, and lists, tuples and dicts of them"
        )
    kind = value.dtype.kind
    if kind not in "biufSUmM" or isinstance(value, np.ma.MaskedArray):
        raise WireError(f"arrays of {value.dtype} ({type(value).__name__}) cannot be sent")
    if isinstance(value, np.ndarray):
        if value.dtype.itemsize == 0:
            raise WireError(f"arrays of {value.dtype}, whose items have no bytes, cannot be sent")
        return {ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    plain = value.item()
    if kind not in _PLAIN or not isinstance(plain, _PLAIN[kind]):
        raise WireError(f"a scalar of {value.dtype} cannot be sent; send an array: np.asarray(value)")
    return {SCALAR: True, b"data": plain, b"dtype": value.dtype.str}


def _unpacked(fields: dict[str | bytes, Any]) -> Any:
    """What a map stands for: an array, a scalar, or itself."""
    if ARRAY in fields:
        return _array(*_fields(fields, ARRAY, b"data", b"dtype", b"shape"))
    if SCALAR in fields:
        return _scalar(*_fields(fields, SCALAR, b"data", b"dtype"))
    return fields


def _fields(fields: dict[str | bytes, Any], mark: bytes, *names: bytes) -> list[Any]:
    if set(fields) != {mark, *names} or fields[mark] is not True:
        raise WireError(f"a map with {mark!r} must have it true beside {names}, got keys {list(fields)[:8]}")
    return [fields[name] for name in names]


def _dtype(text: Any) -> np.dtype[Any]:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise WireError(f"an array's dtype must be like '<f4', got {text!r:.40}")
    try:
        return np.dtype(text)
    except (TypeError, ValueError) as error:
        raise WireError(f"an array's dtype must be like '<f4', got {text!r:.40}") from error


def _array(data: Any, text: Any, shape: Any) -> npt.NDArray[Any]:
    dtype = _dtype(text)
    whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not whole or len(shape) > _MOST_AXES:
        raise WireError(f"an array's shape must be a list of at most {_MOST_AXES} sizes, got {shape!r:.80}")
    if not isinstance(data, bytes) or math.prod(shape) * dtype.itemsize != len(data):
        held = f"{len(data):,} bytes" if isinstance(data, bytes) else f"a {type(data).__name__}"
        raise WireError(f"an array of {text} with shape {shape!r:.80} cannot have {held} as its data")
    check_content(data, dtype)
    try:
        return np.ndarray(tuple(shape), dtype, buffer=data).copy()
    except (ValueError, OverflowError, MemoryError) as error:
        raise WireError(f"an array of {text} with shape {shape!r:.80}: {error}") from error


def _scalar(data: Any, text: Any) -> Any:
    dtype = _dtype(text)
    wanted = _PLAIN.get(dtype.kind)
    if wanted is None or not isinstance(data, wanted) or (isinstance(data, bool) and dtype.kind != "b"):
        raise WireError(f"a scalar of {text} cannot be made of {data!r:.40}")
    try:
        return dtype.type(data)
    except (ValueError, OverflowError) as error:
        raise WireError(f"a scalar of {text} cannot be made of {data!r:.40}: {error}") from error
