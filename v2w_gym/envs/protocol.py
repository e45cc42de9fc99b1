"""What a server of environments and its clients agree on; imports no torch, as clients need none.

Over a websocket, packed by ``wire.arrays``, binary messages only. The server speaks first, a greeting::

    {"protocol": PROTOCOL, "version": VERSION, "world": {...}, "model": hash, "action_space": plain space,
     "frame_size": [h, w], "settings": {...}, "limits": {...}}

Then the client asks and the server answers, one request at a time. A request is a map with ``"op"`` and
``"id"``, a number that the answer repeats. The first is ``{"op": "open", "version": VERSION}``, whose answer
names the ``"session"``; every other request names that session.

==============  ==========================================  =================================================
op              beside ``op``, ``id`` and ``session``       answer, beside ``id``
==============  ==========================================  =================================================
``reset``       ``seed``, ``options``                       ``pixels``, ``info``
``step``        ``action``                                  ``pixels``, ``reward``, ``terminated``,
                                                            ``truncated``, ``info``
``step_chunk``  ``actions`` ``(k, ...)``                    as ``step`` with ``reward`` ``(k,)``, ``chunk``
``snapshot``                                                ``snapshot``, the bytes of a snapshot's file
``restore``     ``snapshot``                                ``pixels``, ``info``
``render``                                                  ``frame``
``close``                                                   nothing; the slot is free
==============  ==========================================  =================================================

A request that cannot be done is answered by ``{"id", "error": kind, "message": text}`` and changes nothing;
only a chunk at which the server itself fails may have taken some of its steps, and the message then says how
many. A server that stops answers nothing more and closes the connection with 1001.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from v2w_gym.wire.structure import Limits

PROTOCOL = "v2w-environments"
VERSION = 1
DEFAULT_PORT = 8765
TOKEN_VARIABLE = "V2W_SERVE_TOKEN"
"""Environment variable of the token, on both sides."""

BAD_REQUEST, RESET_NEEDED, FULL, FAILED = "bad_request", "reset_needed", "full", "failed"
"""Kinds of errors: what was asked makes no sense; there is no episode to step; no slot is free; the server
could not do it though it should."""

OPS = ("open", "reset", "step", "step_chunk", "snapshot", "restore", "render", "close")
ANSWERS = Limits(size=2**30)
"""What a client reads: chunks of frames, and states of large worlds."""

MOST_CHUNK = 256
"""Actions in one ``step_chunk``."""


def plain_space(space: spaces.Space[Any]) -> dict[str, Any]:
    """A space as values that can be sent; :func:`space_of` reads them."""
    if isinstance(space, spaces.Dict):
        return {"kind": "dict", "spaces": {name: plain_space(inner) for name, inner in space.items()}}
    if isinstance(space, spaces.Box):
        return {"kind": "box", "low": space.low, "high": space.high}
    if isinstance(space, spaces.MultiBinary) and isinstance(space.n, int | np.integer):
        return {"kind": "multi_binary", "n": int(space.n)}
    if isinstance(space, spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n)}
    raise TypeError(
        f"a {type(space).__name__} cannot be sent; served are Box, Dict, MultiBinary and Discrete"
    )


def space_of(plain: Mapping[str, Any]) -> spaces.Space[Any]:
    """The space that :func:`plain_space` described.

    Raises:
        ValueError: a description that this version does not know.
    """
    kind = plain.get("kind")
    if kind == "dict":
        return spaces.Dict({name: space_of(inner) for name, inner in plain["spaces"].items()})
    if kind == "box":
        return spaces.Box(plain["low"], plain["high"], dtype=plain["low"].dtype.type)
    if kind == "multi_binary":
        return spaces.MultiBinary(plain["n"])
    if kind == "discrete":
        return spaces.Discrete(plain["n"])
    raise ValueError(f"unknown kind of space {kind!r}; install the same v2w_gym on both sides")
