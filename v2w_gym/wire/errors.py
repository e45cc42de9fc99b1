"""What can go wrong between two sides: bytes that are no message, a far side that is gone, one that fails."""


class WireError(ValueError):
    """A value that cannot be sent, or bytes that are no message."""


class OutageError(ConnectionError):
    """The far side cannot be reached, does not answer or is gone; nothing is known about its policy.

    Attributes:
        again: whether a new connection may help.
    """

    def __init__(self, message: str, *, again: bool = True) -> None:
        super().__init__(message)
        self.again = again


class FarSideError(RuntimeError):
    """The far side sent the text of an error of its own."""
