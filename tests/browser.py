"""Headless Chromium as tests use it: open a page, run some JavaScript in it, hear of every error."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_FLAGS = (  # the second line keeps it from calling home, which a closed network punishes with minutes
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-quic", "--disable-extensions", "--virtual-time-budget=20000"),
)
_EARS = """<script>
const wrong = [];
addEventListener("error", (event) => wrong.push(event.message || "a resource did not load"), true);
addEventListener("unhandledrejection", (event) => wrong.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => wrong.push(`blocked: ${event.blockedURI}`));
const answer = (value) => parent.postMessage({ value, wrong }, "*");
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
</script>"""

_FRAME = """<!doctype html><html><script>
const root = document.documentElement;
addEventListener("message", ({{ data }}) => {{ root.dataset.answer = JSON.stringify(data); }});
</script><iframe src="{source}" style="border: 0; width: {width}px; height: 900px"></iframe></html>"""


def run(page: Path, width: int) -> tuple[str, list[str]]:
    """The page's elements once it has settled, and what it wrote to the console."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        command = [
            CHROMIUM,
            *_FLAGS,
            f"--user-data-dir={profile}",
            f"--window-size={width},900",
            "--dump-dom",
        ]
        done = subprocess.run(
            [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def ask(page: Path, script: str, width: int = 1280) -> Any:
    """Open a copy of ``page``, run ``script`` in it, an async function's body, and return what it returns.

    Any script error, failed resource or blocked request is an assertion error.
    """
    text = page.read_text(encoding="utf-8")
    settle = "(error) => { wrong.push(String(error)); answer(null); }"
    asked = f"<script>(async () => {{ {script} }})().then(answer, {settle});</script>"
    copy = page.with_name(f"asked-{page.name}")
    copy.write_text(text.replace("<head>", "<head>" + _EARS, 1).replace("</body>", asked + "</body>", 1))
    frame = page.with_name(f"framed-{page.name}")  # a window cannot be as narrow as a phone, a frame can
    frame.write_text(_FRAME.format(source=copy.name, width=width))
    found = re.search(r'data-answer="([^"]*)"', run(frame, width)[0])
    assert found, "the page never answered"
    answered = json.loads(html.unescape(found[1]))
    assert answered["wrong"] == []
    return answered["value"]
