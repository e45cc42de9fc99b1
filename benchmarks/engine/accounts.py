"""Where the time of a call goes: every moment is put to the innermost part that is running.

So the parts add up to the whole by construction, and what no part claims stays with the caller.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from torch import nn

from engine.clock import settle


class Accounts:
    """Seconds by kind of part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    def enter(self, kind: str) -> None:
        """A part begins."""
        self._book()
        self._running.append(kind)

    def leave(self) -> None:
        """The innermost part ends."""
        self._book()
        self._running.pop()

    def _book(self) -> None:
        settle()
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = time.perf_counter()

    def booked(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, whose time is put to ``kind``."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.enter(kind)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return call

    @contextmanager
    def watching(
        self, network: nn.Module, kinds: dict[type[nn.Module], str], methods: dict[tuple[Any, str], str]
    ) -> Iterator[None]:
        """Book the layers of ``network`` by their class, and methods of objects or classes by name."""
        with ExitStack() as stack:
            for layer in network.modules():
                kind = next((k for base, k in kinds.items() if isinstance(layer, base)), None)
                if kind is not None:
                    before = layer.register_forward_pre_hook(lambda *_, kind=kind: self.enter(kind))
                    after = layer.register_forward_hook(lambda *_: self.leave())
                    stack.callback(before.remove)
                    stack.callback(after.remove)
            for (owner, name), kind in methods.items():
                stack.enter_context(patch.object(owner, name, self.booked(kind, getattr(owner, name))))
            yield
