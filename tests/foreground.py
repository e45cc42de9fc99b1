"""Commands that tests start as a terminal would: Ctrl-C reaches them, whoever runs the tests."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import Any


def foreground(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start ``command``; a runner in the background of a script has SIGINT ignored, and hands that on."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )
