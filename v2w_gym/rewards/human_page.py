"""The page on which people judge clips, served to this machine alone."""

from __future__ import annotations

import base64
import datetime
import hmac
import io
import json
import re
import secrets
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from v2w_gym.data.episode import FrameArray
from v2w_gym.rewards.human_labels import VERDICTS, Label
from v2w_gym.rewards.human_queue import ClipQueue

_TEMPLATES = Path(__file__).parent / "templates"
_FILES = {"": ("label.html", "text/html"), "label.css": ("label.css", "text/css")}
_FILES |= {"label.js": ("label.js", "text/javascript")}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LARGEST = 4096  # bytes of a label
_PIXELS = 256 * 256  # of a frame that is sent as it is; larger ones travel as JPEG


class LabelServer:
    """Shows the clips of a queue to one person and writes down what they say.

    It listens on 127.0.0.1 alone. Its address holds a token, and requests for another host or from another
    origin are refused: neither other users of the machine nor pages of other sites can read clips or post
    labels. Names of policies are nowhere in a queue, so nobody can be swayed by them.

    Args:
        queue: clips and labels.
        rater: name under which labels are written.
        seed: of the order of the clips.
        port: 0 takes any that is free.

    Raises:
        ValueError: a rater without a name.
        OSError: the port is taken.
    """

    def __init__(self, queue: ClipQueue, rater: str, seed: int = 0, port: int = 0) -> None:
        if not rater.strip():
            raise ValueError("a rater needs a name; type: v2w label FOLDER --rater NAME")
        self.queue, self.rater, self.seed = queue, rater, seed
        self.token = secrets.token_urlsafe(16)
        self._server = _Listener(("127.0.0.1", port), _handler(self))
        self.port = int(self._server.server_address[1])
        self.hosts = frozenset({f"127.0.0.1:{self.port}", f"localhost:{self.port}"})

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    def serve(self) -> None:
        """Answer requests until the thread is interrupted or the server closed."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> LabelServer:
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def clips(self) -> dict[str, Any]:
        """All clips in this rater's order, with what they said before."""
        labels = self.queue.labels.read()
        names = self.queue.names(self.seed)
        known = [{"clip": name, "verdict": labels.get(name, {}).get(self.rater)} for name in names]
        return {"rater": self.rater, "clips": known}

    def clip(self, name: str) -> dict[str, Any]:
        """One clip as the page shows it, or why it cannot."""
        try:
            clip = self.queue.load(name)
        except ValueError as error:
            return {"unreadable": str(error)}
        urls = [_data_url(frame) for frame in clip.frames]
        return {"instruction": clip.instruction, "fps": clip.fps, "frames": urls}

    def label(self, values: Any) -> None:
        """Write down a verdict."""
        name, verdict = (
            (values.get("clip"), values.get("verdict")) if isinstance(values, dict) else (None, None)
        )
        if not isinstance(name, str) or verdict not in VERDICTS:
            raise ValueError(f"a label has a clip and a verdict of {', '.join(VERDICTS)}")
        if name not in self.queue.names(self.seed):
            raise FileNotFoundError("no such clip")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.queue.labels.append(Label(name, self.rater, verdict, now))


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64  # a browser opens several connections at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):  # the page was left meanwhile
            super().handle_error(request, client_address)


def _data_url(frame: FrameArray) -> str:
    file = io.BytesIO()
    kind = "png" if frame.shape[0] * frame.shape[1] <= _PIXELS else "jpeg"
    Image.fromarray(frame).save(file, kind, **({"quality": 92} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


def _handler(server: LabelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30  # seconds of silence
        server_version, sys_version = "v2w", ""

        def do_GET(self) -> None:
            self._answer(self._get)

        def do_POST(self) -> None:
            self._answer(self._post)

        def _answer(self, method: Any) -> None:
            try:
                status, (kind, content) = HTTPStatus.OK, method(self._below_the_token())
            except _RefusedError as error:
                status, kind, content = _trouble(error.status, error)
            except (FileNotFoundError, ValueError) as error:
                status, kind, content = _trouble(HTTPStatus.NOT_FOUND, error)
            except OSError as error:
                status, kind, content = _trouble(HTTPStatus.INTERNAL_SERVER_ERROR, error)
            self._send(status, kind, content)

        def _below_the_token(self) -> str:
            if self.headers.get("Host", "") not in server.hosts:
                raise _RefusedError(HTTPStatus.FORBIDDEN, "this page is for this machine alone")
            origin = self.headers.get("Origin")
            if origin is not None and origin.removeprefix("http://") not in server.hosts:
                raise _RefusedError(HTTPStatus.FORBIDDEN, "requests from other pages are refused")
            _, token, path = [*self.path.partition("?")[0].split("/", 2), "", ""][:3]
            if not hmac.compare_digest(token.encode("utf-8", "replace"), server.token.encode()):
                raise _RefusedError(HTTPStatus.NOT_FOUND, "nothing here; the address has a token in it")
            return path

        def _get(self, path: str) -> tuple[str, bytes]:
            if path in _FILES:
                name, kind = _FILES[path]
                return f"{kind}; charset=utf-8", (_TEMPLATES / name).read_bytes()
            if path == "clips":
                return "application/json", _plain(server.clips())
            if match := re.fullmatch(r"clip/([0-9a-f]{32})", path):
                return "application/json", _plain(server.clip(match[1]))
            raise _RefusedError(HTTPStatus.NOT_FOUND, "nothing here")

        def _post(self, path: str) -> tuple[str, bytes]:
            if path != "label":
                raise _RefusedError(HTTPStatus.NOT_FOUND, "nothing here")
            if self.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
                raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a label is JSON")
            length = self.headers.get("Content-Length", "")
            if not re.fullmatch(r"\d{1,9}", length) or int(length) > _LARGEST:
                raise _RefusedError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a label has {_LARGEST} bytes at most"
                )
            try:
                server.label(json.loads(self.rfile.read(int(length))))
            except (ValueError, RecursionError) as error:
                raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
            return "application/json", _plain(server.clips())

        def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
            self.send_response(status)
            headers = {
                "Content-Type": kind,
                "Content-Length": str(len(content)),
                "Content-Security-Policy": _POLICY,
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
            }
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody wants a line per request."""

    return Handler


def _trouble(status: HTTPStatus, error: Exception) -> tuple[HTTPStatus, str, bytes]:
    return status, "application/json", _plain({"error": str(error)})


def _plain(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()
