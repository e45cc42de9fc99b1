"""``v2w label``: a page on which a person judges the clips of a queue."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path

from v2w_gym.cli.command import Command


def _add_label(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, help="of the queue, as the judge of kind human names it, e.g. runs/label")
    add("--rater", default=None, help="name under which verdicts are written (default: the login name)")
    add("--seed", type=int, default=0, help="of the order of the clips (default: %(default)s)")
    add("--port", type=int, default=0, help="of the page, on 127.0.0.1 (default: any that is free)")
    add("--open", action="store_true", help="open the page in the browser of this machine")


def _label(arguments: argparse.Namespace) -> int:
    import webbrowser

    from v2w_gym.rewards.human_page import LabelServer
    from v2w_gym.rewards.human_queue import ClipQueue

    rater = _login_name() if arguments.rater is None else arguments.rater
    queue = ClipQueue(arguments.folder)
    server = LabelServer(queue, rater, arguments.seed, arguments.port)
    print(
        f"{queue.told()}\nopen {server.url}\nverdicts of {rater} go to {queue.labels.path}; stop with Ctrl-C"
    )
    sys.stdout.flush()
    if arguments.open:
        webbrowser.open(server.url)
    try:
        server.serve()
    except KeyboardInterrupt:
        print(f"\n{queue.told()}")
    return 0


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # in a container, say, whose user has no name
        raise ValueError("this machine does not know your name; say --rater NAME") from error


LABEL = {"label": Command("judge clips by hand, on a page in the browser", _add_label, _label)}
