"""The other side of openpi's protocol, made of msgpack and websockets alone.

Written from what openpi's files do (``msgpack_numpy.py``, ``websocket_client_policy.py``,
``websocket_policy_server.py``; 15a9616), with nothing of ours, so that both
sides of ours meet somebody else.
"""

import contextlib
import http
import socket
import threading
import time
import traceback

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve


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


class Gone(Exception):  # noqa: N818 - no error of the policy's
    """Raised within ``infer``: the process is killed, without a text or a close frame."""


class Peer:
    """A server on a free port of loopback that does whatever ``converse(websocket)`` does.

    Args:
        converse: called in a thread for each connection.
        admit: openpi's ``process_request``.
    """

    def __init__(self, converse, admit=None):
        self.server = serve(
            converse,
            "127.0.0.1",
            0,
            compression=None,
            max_size=None,
            process_request=admit,
            close_timeout=0.2,
        )
        self.port = self.server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.socket.close()


def openpi_server(infer, metadata=None):
    """What ``WebsocketPolicyServer`` does with a policy whose ``infer`` this is."""

    def converse(websocket):
        websocket.send(pack(metadata or {}))
        previous = None
        while True:
            try:
                began = time.monotonic()
                observation = unpack(websocket.recv())
                answer = infer(observation)
                answer["server_timing"] = {"infer_ms": 1000 * (time.monotonic() - began)}
                if previous is not None:
                    answer["server_timing"]["prev_total_ms"] = 1000 * previous
                websocket.send(pack(answer))
                previous = time.monotonic() - began
            except ConnectionClosed:
                return
            except Gone:
                websocket.socket.shutdown(socket.SHUT_RDWR)
                return
            except Exception:
                websocket.send(traceback.format_exc())
                websocket.close(1011, "Internal server error. Traceback included in previous frame.")
                return

    def health(connection, request):
        return connection.respond(http.HTTPStatus.OK, "OK\n") if request.path == "/healthz" else None

    return Peer(converse, health)


class OpenpiClient:
    """What ``WebsocketClientPolicy`` does."""

    def __init__(self, url, api_key=None):
        headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        self._entered = contextlib.ExitStack()
        self.websocket = self._entered.enter_context(
            connect(url, compression=None, max_size=None, additional_headers=headers)
        )
        self.metadata = unpack(self.websocket.recv())

    def infer(self, observation):
        self.websocket.send(pack(observation))
        answer = self.websocket.recv()
        if isinstance(answer, str):
            raise RuntimeError(f"Error in inference server:\n{answer}")
        return unpack(answer)

    def close(self):
        self._entered.close()
