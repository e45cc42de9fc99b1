"""A server of the tiny world, and clients that speak to it by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from v2w_gym.envs.protocol import VERSION
from v2w_gym.envs.settings import Settings
from v2w_gym.serve.environments import ServeConfig, serving
from v2w_gym.wire.arrays import pack, unpack


@contextlib.contextmanager
def tiny_server(world: Path, *, terminate_on_success: bool = False, **config: Any) -> Iterator[str]:
    settings = Settings(terminate_on_success=terminate_on_success)
    with serving(world, ServeConfig(port=0, **config), settings) as url:
        yield url


class Bare:
    """A client without manners: sends any bytes."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.greeting = unpack(socket.recv(10))
        self.session = ""

    def say(self, data: bytes | str) -> dict[str, Any]:
        """The answer to any bytes."""
        self.socket.send(data)
        answer = unpack(self.socket.recv(20))
        assert isinstance(answer, dict)
        return answer

    def ask(self, op: Any, **fields: Any) -> dict[str, Any]:
        return self.say(pack({"op": op, "id": 1, "session": self.session, **fields}))

    def open(self) -> Bare:
        self.session = self.ask("open", version=VERSION)["session"]
        return self


@contextlib.contextmanager
def bare(url: str, **options: Any) -> Iterator[Bare]:
    with connect(url, compression=None, max_size=None, close_timeout=1, **options) as socket:
        yield Bare(socket)
