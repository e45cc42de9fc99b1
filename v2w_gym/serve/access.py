"""Who may talk to a server: this machine, or whoever has the token; never a page in a browser."""

from __future__ import annotations

import hmac
import os
import re
from http import HTTPStatus
from typing import Any

from v2w_gym.envs.protocol import TOKEN_VARIABLE
from v2w_gym.wire.loopback import is_loopback

_TOKEN = re.compile(r"[!-~]{16,}")  # printable, without blanks: it travels in a header


def address(name: tuple[Any, ...]) -> str:
    """What clients type for a socket that listens under ``name``, as ``getsockname`` gives it."""
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"ws://{host}:{name[1]}"


def token_for(host: str) -> str | None:
    """The token from the environment; None where none is needed and none is given.

    Raises:
        ValueError: ``host`` can be reached from elsewhere and there is no token, or it is a poor one.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    make = f"export {TOKEN_VARIABLE}=$(python -c 'import secrets; print(secrets.token_urlsafe())')"
    if token is not None and not _TOKEN.fullmatch(token):
        raise ValueError(
            f"{TOKEN_VARIABLE} must be at least 16 printable characters without blanks; make one: {make}"
        )
    if token is None and not is_loopback(host):
        raise ValueError(
            f"--host {host} can be reached from other machines, so clients must show a token: {make}; "
            "or stay on --host 127.0.0.1 and let clients come by ssh -L"
        )
    return token


def shows_token(request: Any, token: str) -> bool:
    """Whether an HTTP request has the token; takes as long for a nearly right one as for a wrong one."""
    shown = "".join(request.headers.get_all("Authorization"))
    return hmac.compare_digest(shown.encode(errors="replace"), f"Bearer {token}".encode())


def admitted(connection: Any, request: Any, token: str | None, room: bool) -> Any:
    """What to answer a client that knocks: a refusal, or None, which lets it in.

    Args:
        connection: makes the answer.
        request: its HTTP request.
        token: that it must show; None for none.
        room: whether there is room for another connection.
    """
    if "Origin" in request.headers:  # any page that a browser has open may knock at loopback
        return connection.respond(HTTPStatus.FORBIDDEN, "pages in a browser are not served\n")
    if token is not None and not shows_token(request, token):
        return connection.respond(HTTPStatus.UNAUTHORIZED, f"the token in {TOKEN_VARIABLE} is another\n")
    if not room:
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
    return None
