"""Sub-command ``serve``: a world as a server of environments."""

from __future__ import annotations

import argparse

import yaml

from v2w_gym.cli.command import Command


def _add_serve(parser: argparse.ArgumentParser) -> None:
    from v2w_gym.envs.protocol import DEFAULT_PORT, TOKEN_VARIABLE
    from v2w_gym.registration import SHIPPED_WORLDS

    add = parser.add_argument
    add("--world", default=next(iter(SHIPPED_WORLDS)), help="id, folder or hub id (default: %(default)s)")
    add(
        "--host",
        default="127.0.0.1",
        help=f"one that other machines reach needs a token in {TOKEN_VARIABLE} (default: %(default)s)",
    )
    add("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)")
    add("--slots", type=int, default=64, help="sessions at the same time (default: %(default)s)")
    add("--device", default="cpu", help="where the world model runs, e.g. cuda (default: %(default)s)")
    add(
        "--wait-ms",
        type=float,
        default=5.0,
        help="how long a step waits for those of other sessions (default: %(default)s)",
    )
    add(
        "--idle-s",
        type=float,
        default=600.0,
        help="a session that asks nothing for so long is closed (default: %(default)s)",
    )
    add(
        "--send-s",
        type=float,
        default=30.0,
        help="a client that takes so long to read an answer is cut off (default: %(default)s)",
    )
    add(
        "settings",
        nargs="*",
        metavar="key=value",
        help="keyword arguments of the environment, for all sessions, e.g. reward=dense sampler=fast",
    )


def _serve(arguments: argparse.Namespace) -> int:
    from v2w_gym.config import from_dict
    from v2w_gym.envs.settings import Settings
    from v2w_gym.serve.environments import ServeConfig, serve

    config = ServeConfig(
        arguments.host,
        arguments.port,
        arguments.slots,
        arguments.wait_ms,
        arguments.idle_s,
        arguments.send_s,
    )
    given = dict(_setting(text) for text in arguments.settings)
    settings = from_dict(Settings, {"device": arguments.device, **given}, "v2w serve")
    serve(arguments.world, config, settings, lambda url: _tell(url, arguments.world))
    return 0


def _setting(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"a setting looks like reward=dense, got {text!r}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"the value of the setting {text!r} is no YAML: {error}") from error


def _tell(url: str, world: str) -> None:
    make = f'gym.make("v2w_gym:Vid2World-Remote-v0", url="{url}")'
    print(f"{world} is served at {url}; stop with Ctrl-C\n  {make}", flush=True)


SERVE = {"serve": Command("serve a world to clients in other processes or elsewhere", _add_serve, _serve)}
