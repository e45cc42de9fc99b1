"""Sending to somebody who may have stopped reading."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any


def send_within(seconds: float, connection: Any, message: bytes | str) -> None:
    """Send over a websocket; its library waits for ever for a far side that does not read.

    Args:
        seconds: until the connection is cut.
        connection: a connection of ``websockets.sync``.
        message: what to send.

    Raises:
        TimeoutError: it was cut.
    """
    late = threading.Event()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        connection.send(message)
    except Exception as error:
        if late.is_set():
            raise TimeoutError(f"the far side has not read a message for {seconds:g} s") from error
        raise
    finally:
        timer.cancel()
