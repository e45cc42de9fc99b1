"""One try of one request to an endpoint: under a deadline, of bounded size, and with no word of the key."""

from __future__ import annotations

import email.utils
import json
import os
import queue
import re
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from v2w_gym.rewards.served_reply import one_line

if TYPE_CHECKING:
    import requests

_AGAIN = (408, 409, 425, 429)
_LARGEST = 8 * 2**20  # bytes of a reply; log-probabilities of a long one take a few hundred thousand
_GLANCE = 0.2  # seconds between two looks at whether to stop
_SECRET = 8  # characters of the shortest key that is one


class OutageError(Exception):
    """The far side did not answer, or said that it cannot at the moment; it may answer later.

    Args:
        reason: for people.
        wait: seconds after which it wants to be asked again, where it said so.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class RefusalError(Exception):
    """The far side answered, and would answer the same again.

    Args:
        reason: for people.
        everything: it refuses whatever it is asked (a wrong key, an unknown model), not this request alone.
    """

    def __init__(self, reason: str, everything: bool = False) -> None:
        super().__init__(reason)
        self.everything = everything


class Key:
    """An API key that is read from the environment when it is sent, and kept nowhere.

    Args:
        variable: name of the environment variable; None for an endpoint that wants none.

    Raises:
        ValueError: the variable is empty, or holds what no header can carry.
    """

    def __init__(self, variable: str | None) -> None:
        self.variable = variable
        self._read()

    def _read(self) -> str:
        if self.variable is None:
            return ""
        key = os.environ.get(self.variable, "").strip()
        if not key:
            raise ValueError(
                f"the judge's key is read from the environment, and {self.variable} is empty there; type: "
                f"export {self.variable}=..."
            )
        if not re.fullmatch(r"[!-~]+", key):
            raise ValueError(f"the key in {self.variable} has blanks or characters that no header can carry")
        return key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request; without a key nothing is added, not even what a .netrc file holds."""
        try:
            key = self._read()
        except ValueError as error:  # it was there when the judge was made
            raise RefusalError(str(error), everything=True) from None
        if key:
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    def without(self, text: str) -> str:
        """``text`` with the key blotted out, should a server repeat it; short ones are placeholders."""
        key = os.environ.get(self.variable or "", "").strip()
        if len(key) < _SECRET:
            return text
        written = json.dumps(key)[1:-1]
        for form in (key, written, written.replace("/", "\\/")):  # as it is, and as JSON may write it
            text = text.replace(form, "[key]")
        return text


def post(
    url: str, body: Mapping[str, Any], key: Key, *, connect: float, seconds: float, stopped: threading.Event
) -> Any:
    """Post JSON and return the JSON that comes back.

    Redirects are not followed, so that neither key nor frames reach another host.

    Args:
        url: of the endpoint.
        body: to be sent.
        key: signs the request.
        connect: seconds for the connection.
        seconds: from the beginning to the last byte, however slowly bytes come.
        stopped: once set, nobody waits any longer.

    Raises:
        OutageError: see the class.
        RefusalError: see the class.
    """
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()
    over = threading.Event()

    def work() -> None:
        try:
            found.put(_exchange(url, body, key, (min(connect, seconds), seconds), over))
        except Exception as error:
            found.put(error)

    # A read timeout watches single reads: a server that drips is only left behind by leaving the thread.
    threading.Thread(target=work, daemon=True).start()
    try:
        result = _awaited(found, time.monotonic() + seconds, stopped)
    except queue.Empty:
        raise OutageError(f"{_host(url)} sent no whole reply within {seconds:.3g} s") from None
    finally:
        over.set()
    if isinstance(result, Exception):
        raise result
    return result


def _awaited(found: queue.SimpleQueue[Any], until: float, stopped: threading.Event) -> Any:
    while not stopped.is_set():
        left = until - time.monotonic()
        try:
            return found.get(timeout=max(0.0, min(left, _GLANCE)))
        except queue.Empty:
            if left <= _GLANCE:
                raise
    raise OutageError("stopped")


def _exchange(
    url: str, body: Mapping[str, Any], key: Key, timeout: tuple[float, float], over: threading.Event
) -> Any:
    import requests

    try:
        with requests.post(
            url,
            json=body,
            auth=key,
            timeout=timeout,
            allow_redirects=False,
            stream=True,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        ) as response:
            content = _content(response, over)
    except requests.Timeout:
        raise OutageError(f"{_host(url)} did not answer within {timeout[1]:.3g} s") from None
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise OutageError(f"the connection to {_host(url)} failed: {_cause(error)}") from None
    except requests.RequestException as error:
        raise RefusalError(f"{_host(url)} cannot be asked: {type(error).__name__}") from None
    return _judged(response, content, key)


def _content(response: requests.Response, over: threading.Event) -> bytes:
    content = bytearray()
    for piece in response.iter_content(65536):
        content += piece
        if len(content) > _LARGEST:
            raise RefusalError(
                f"{_host(response.url)} sent more than {_LARGEST // 2**20} MiB, which is no reply"
            )
        if over.is_set():
            break
    return bytes(content)


def _judged(response: requests.Response, content: bytes, key: Key) -> Any:
    """The JSON of a good response; what a bad one means."""
    status, host = response.status_code, _host(response.url)
    text = key.without(content.decode("utf-8", "replace"))[:4096]
    if 300 <= status < 400:
        elsewhere = _host(response.headers.get("Location", ""))
        raise RefusalError(
            f"{host} redirects to {elsewhere or 'nowhere'}, which is not followed; set base_url to where "
            "the endpoint really is",
            everything=True,
        )
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        value = None
        if status < 300:
            raise OutageError(f"{host} sent no JSON but {one_line(text)!r}") from None
    if status < 300 and isinstance(value, dict) and value.get("error"):
        status = _status_within(value["error"])  # gateways wrap the trouble of what lies behind them so
    elif status < 300:
        return value
    said = one_line(key.without(message_of(value) or text))
    reason = f"{host} answered {status}" + (f": {said}" if said else "")
    if status in _AGAIN or status >= 500:
        raise OutageError(reason, _seconds(response.headers.get("Retry-After")))
    raise RefusalError(reason, everything=status in (401, 403, 404))


def message_of(value: Any) -> str | None:
    """What an error body says, in the shapes of OpenAI, vLLM (both), llama.cpp, Ollama (both) and FastAPI."""
    if not isinstance(value, dict):
        return None
    inner = value.get("error", value.get("detail", value))
    if isinstance(inner, list):
        inner = "; ".join(str(item.get("msg", item) if isinstance(item, dict) else item) for item in inner)
    said = inner.get("message") if isinstance(inner, dict) else inner
    return said if isinstance(said, str) else None


def _status_within(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _seconds(retry_after: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as a date."""
    if retry_after is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}(\.\d+)?\s*", retry_after):
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _cause(error: BaseException) -> str:
    """The system's own words for a failed connection, without the wrappings of three libraries."""
    seen, inner = error, error.__cause__ or error.__context__
    while inner is not None and inner is not seen:
        seen, inner = inner, inner.__cause__ or inner.__context__
    return one_line((seen.strerror or str(seen)) if isinstance(seen, OSError) else str(seen))
