"""The one error of this room."""


class WireError(ValueError):
    """A value that cannot be sent, or bytes that are no message."""
