"""What crosses a socket: msgpack with arrays in openpi's form, read as if a stranger had written it."""

from v2w_gym.wire.errors import FarSideError, OutageError, WireError

__all__ = ["FarSideError", "OutageError", "WireError"]
