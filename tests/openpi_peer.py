"""The other side of openpi's protocol, made of msgpack and websockets alone.

Written from what openpi's files do (``openpi_client/msgpack_numpy.py``), with nothing of ours, so that both
sides of ours meet somebody else.
"""

import msgpack
import numpy as np


def _default(value):
    if isinstance(value, np.ndarray):
        fields = {b"__ndarray__": True, b"data": value.tobytes()}
        return fields | {b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    return value


def _hook(fields):
    if b"__ndarray__" in fields:
        dtype = np.dtype(fields[b"dtype"])
        return np.ndarray(buffer=fields[b"data"], dtype=dtype, shape=fields[b"shape"])
    if b"__npgeneric__" in fields:
        return np.dtype(fields[b"dtype"]).type(fields[b"data"])
    return fields


def pack(value):
    return msgpack.packb(value, default=_default)


def unpack(data):
    return msgpack.unpackb(data, object_hook=_hook)
