"""A loopback server that speaks OpenAI's chat completions as they are on the wire, and fails as servers do.

    with OpenAIServer(lambda asked: completion("It is shut.\\nAnswer: yes")) as server:
        server.url  # "http://127.0.0.1:PORT/v1", the base_url of a client
        server.asked  # every request so far, in order of arrival

What happens to a request is decided by one function, ``respond(asked: Asked) -> Answer``, given to the class
or set later (``server.respond = ...``); it is called for one request at a time. An outage for half of the
calls::

    server.respond = lambda asked: error(503) if asked.number % 2 else completion("Answer: yes")

``completion(text, ...)`` is a reply, ``error(status, shape=...)`` an error as OpenAI, vLLM, llama.cpp or
Ollama write it, and ``Answer`` any bytes at all: late (``late``), a byte at a time (``drip``), cut off
(``cut``), with a wrong length (``length``). ``server.stop()`` refuses connections from then on, and
``server.start()`` listens again at the same port.
"""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import numpy as np
from PIL import Image

Shape = Literal["openai", "vllm", "vllm_old", "llama_cpp", "ollama", "ollama_native", "fastapi"]


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        number: how many came before it.
        path: e.g. ``/v1/chat/completions``.
        headers: names in lower case.
        body: the JSON object that was posted.
    """

    number: int
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def parts(self) -> list[Mapping[str, Any]]:
        """All content parts of all messages; plain text counts as a part."""
        contents = [message["content"] for message in self.body["messages"]]
        lists = [[{"type": "text", "text": c}] if isinstance(c, str) else c for c in contents]
        return [part for parts in lists for part in parts]

    @property
    def text(self) -> str:
        """All texts of the prompt, one after the other."""
        return "\n".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def images(self) -> list[np.ndarray]:
        """The pictures, decoded from their data URLs: ``(h, w, 3)`` uint8 each."""
        urls = [part["image_url"]["url"] for part in self.parts if part["type"] == "image_url"]
        found = [re.fullmatch(r"data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)", url) for url in urls]
        assert all(found), "pictures travel as base64 data URLs"
        datas = [base64.b64decode(match[1]) for match in found if match]
        return [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in datas]


@dataclass(frozen=True)
class Answer:
    """What the server sends, byte for byte.

    Attributes:
        body: after the headers.
        status: of HTTP.
        headers: beside Content-Length; a Content-Type here replaces ``application/json``.
        late: seconds before the first byte.
        drip: seconds between single bytes of the body; 0 sends it at once.
        drip_headers: the same for status line and headers.
        cut: bytes of the body after which the connection is closed.
        length: what Content-Length says in place of the truth.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    late: float = 0.0
    drip: float = 0.0
    drip_headers: float = 0.0
    cut: int | None = None
    length: int | None = None


Respond = Callable[[Asked], Answer]


def completion(
    text: Any,
    *,
    finish: str = "stop",
    prompt_tokens: int = 100,
    completion_tokens: int = 10,
    top: Sequence[Mapping[str, float]] | None = None,
    message: Mapping[str, Any] | None = None,
    **how: Any,
) -> Answer:
    """A chat completion.

    Args:
        text: content of the message.
        finish: ``stop``, ``length`` or ``content_filter``.
        prompt_tokens: of the usage.
        completion_tokens: of the usage.
        top: for every token of the reply, the likeliest tokens and their log-probabilities.
        message: further keys of the message, e.g. ``refusal``.
        how: fields of ``Answer``.
    """
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **(message or {})},
        "logprobs": None if top is None else {"content": [_logprob(likely) for likely in top]},
        "finish_reason": finish,
    }
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return reply(
        {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "tiny",
            "choices": [choice],
            "usage": usage,
        },
        **how,
    )


def _logprob(likely: Mapping[str, float]) -> dict[str, Any]:
    entries = [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in likely.items()]
    return {**entries[0], "top_logprobs": entries}


def reply(value: Any, **how: Any) -> Answer:
    """Any JSON."""
    return Answer(json.dumps(value).encode(), **how)


def error(
    status: int,
    message: str = "something is wrong",
    shape: Shape = "openai",
    *,
    retry_after: str | None = None,
) -> Answer:
    """An error as a kind of server writes it."""
    kind = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
    name = HTTPStatus(status).phrase.replace(" ", "") + "Error"
    body: Any = {
        "openai": {
            "error": {
                "message": message,
                "type": kind.get(status, "server_error"),
                "param": None,
                "code": None,
            }
        },
        "vllm": {"error": {"message": message, "type": name, "param": None, "code": status}},
        "vllm_old": {"object": "error", "message": message, "type": name, "param": None, "code": status},
        "llama_cpp": {
            "error": {"code": status, "message": message, "type": kind.get(status, "server_error")}
        },
        "ollama": {"error": {"message": message, "type": "api_error", "param": None, "code": None}},
        "ollama_native": {"error": message},
        "fastapi": {"detail": [{"loc": ["body"], "msg": message, "type": "value_error"}]},
    }[shape]
    return reply(body, status=status, headers={} if retry_after is None else {"Retry-After": retry_after})


class OpenAIServer:
    """Serves on 127.0.0.1, one thread per request; the module says how to use it."""

    def __init__(self, respond: Respond = lambda asked: completion("Answer: yes")) -> None:
        self.respond = respond
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        """Listen; at the same port as before, where there was one."""
        self._over.clear()
        self._server = _Listener(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections; requests that hang are dropped."""
        self._over.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> OpenAIServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _decide(self, path: str, headers: Mapping[str, str], body: Any) -> Answer:
        with self._lock:
            asked = Asked(len(self.asked), path, headers, body)
            self.asked.append(asked)
            return self.respond(asked)

    def _wait(self, seconds: float) -> None:
        if self._over.wait(seconds):
            raise ConnectionAbortedError


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


def _handler(server: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                self._send(server._decide(self.path, headers, json.loads(data or b"{}")))
            except ConnectionError:
                self.close_connection = True

        def do_GET(self) -> None:  # a client that follows a redirect comes so
            self.do_POST()

        def _send(self, answer: Answer) -> None:
            server._wait(answer.late)
            length = len(answer.body) if answer.length is None else answer.length
            headers = {"Content-Type": "application/json", **answer.headers, "Content-Length": str(length)}
            lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            self._write("\r\n".join([*lines, "", ""]).encode(), answer.drip_headers)
            self._write(answer.body[: answer.cut], answer.drip)
            self.close_connection = True

        def _write(self, data: bytes, drip: float) -> None:
            for i in range(0, len(data), 1 if drip else len(data) or 1):
                self.wfile.write(data[i : i + 1] if drip else data)
                self.wfile.flush()
                server._wait(drip)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
