"""The skeleton of a msgpack message, walked without building anything.

msgpack's own limits hold for one container each, and a container's room is set aside before its items are
read: a few nested headers can ask for gigabytes. So headers are walked first, and nothing is built from bytes
whose headers lie. The format: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from dataclasses import dataclass

from v2w_gym.wire.errors import WireError


@dataclass(frozen=True)
class Limits:
    """How large a message may be.

    Attributes:
        size: bytes in all.
        depth: lists and maps within each other; an array counts as one map and one list.
        items: values in all, a map's keys included.
    """

    size: int = 64 * 2**20
    depth: int = 32
    items: int = 200_000


LIMITS = Limits()

_SIZED = {  # code: bytes of the length that follows, kind
    **{0xC4 + i: (1 << i, "bin") for i in range(3)},
    **{0xD9 + i: (1 << i, "str") for i in range(3)},
    **{0xDC + i: (2 << i, "list") for i in range(2)},
    **{0xDE + i: (2 << i, "map") for i in range(2)},
}
_FIXED = {  # code: bytes that follow
    0xC0: 0,
    0xC2: 0,
    0xC3: 0,
    0xCA: 4,
    0xCB: 8,
    **{0xCC + i: 1 << i for i in range(4)},
    **{0xD0 + i: 1 << i for i in range(4)},
}


def check_structure(data: bytes, limits: Limits = LIMITS) -> None:
    """See that ``data`` is one whole msgpack value within ``limits``; keys of maps must be texts or bytes.

    Raises:
        WireError: it is not.
    """
    if len(data) > limits.size:
        raise WireError(f"a message of {len(data):,} bytes, more than the {limits.size:,} allowed")
    at, items = 0, 0
    open_: list[tuple[int, bool]] = [(1, False)]  # values still to come, in a map?
    while open_:
        left, in_map = open_.pop()
        if left == 0:
            continue
        open_.append((left - 1, in_map))
        kind, at, length = _header(data, at)
        items += 1
        if in_map and left % 2 == 0 and kind not in ("str", "bin"):
            raise WireError(f"a map's key must be text or bytes, got a {kind} before byte {at}")
        if kind in ("list", "map"):
            children = length * (2 if kind == "map" else 1)
            if items + children > limits.items:
                raise WireError(f"more than {limits.items:,} values in a message (before byte {at})")
            open_.append((children, kind == "map"))
            if len(open_) - 1 > limits.depth:
                raise WireError(f"lists and maps nested deeper than {limits.depth} (before byte {at})")
        else:
            at += length
        if at > len(data):
            raise WireError(f"a message cut off after {len(data)} bytes; its last value ends at byte {at}")
    if at < len(data):
        raise WireError(f"{len(data) - at} bytes too many after the end of a message")


def _header(data: bytes, at: int) -> tuple[str, int, int]:
    """What begins at byte ``at``: its kind, where its content begins, and its bytes or items."""
    if at >= len(data):
        raise WireError(f"a message cut off after {len(data)} bytes")
    code = data[at]
    at += 1
    if code < 0x80 or code >= 0xE0:
        return "number", at, 0
    if code < 0xA0:
        return "map" if code < 0x90 else "list", at, code & 0x0F
    if code < 0xC0:
        return "str", at, code & 0x1F
    if code in _FIXED:
        return "number", at, _FIXED[code]
    if code in _SIZED:
        width, kind = _SIZED[code]
        return kind, at + width, int.from_bytes(data[at : at + width], "big")
    raise WireError(f"byte {at - 1} ({code:#04x}) begins no value that a message may hold")
