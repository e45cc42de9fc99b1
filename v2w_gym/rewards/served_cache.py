"""Replies on the disk, by what was asked: a file each, put in place whole, for any number of processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from v2w_gym.rewards.served_reply import Reply

_FORMAT = 1


def question_hash(*parts: Any) -> str:
    """Names a question by plain JSON values and by bytes."""
    digest = hashlib.sha256(str(_FORMAT).encode())
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


class ReplyCache:
    """A folder of replies.

    A damaged entry counts as none, and is replaced by the next reply. A folder that cannot be written keeps
    nothing, and no judgement is lost by it.

    Args:
        folder: made when the first reply is kept.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()

    def get(self, name: str) -> Reply | None:
        """The reply to the question of that hash."""
        try:
            entry = json.loads(self._path(name).read_bytes())
            return _reply(entry["reply"]) if entry["digest"] == _digest(name, entry["reply"]) else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, name: str, reply: Reply) -> None:
        """Keep a reply."""
        plain = json.loads(json.dumps(asdict(reply)))
        content = json.dumps({"reply": plain, "digest": _digest(name, plain)})
        path = self._path(name)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
            try:
                with open(handle, "w") as file:
                    file.write(content)
                os.replace(partial, path)
            except BaseException:
                os.unlink(partial)
                raise

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.json"


def _digest(name: str, plain: Mapping[str, Any]) -> str:
    return question_hash(name, plain)


def _reply(plain: Mapping[str, Any]) -> Reply:
    likely = tuple(tuple((str(t), float(p)) for t, p in place) for place in plain["likely"])
    return Reply(**{**plain, "likely": likely})
