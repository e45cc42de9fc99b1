"""``v2w serve-policy``: a policy behind openpi's websocket protocol."""

from __future__ import annotations

import argparse
import os
import sys

from v2w_gym.cli.command import Command


def _add_serve_policy(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("policy", metavar="SPEC", help="any name that `v2w rank --policy` takes, e.g. converged")
    add(
        "--host",
        default="127.0.0.1",
        help="interface; others than loopback need a key (default: %(default)s)",
    )
    add("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    add("--api-key-env", metavar="NAME", help="environment variable with the key that clients must send")
    add(
        "--shared", action="store_true", help="one policy for all connections: it keeps nothing between calls"
    )
    add("--connections", type=int, default=64, help="at most so many at a time (default: %(default)s)")
    add("--image-key", default="observation/image", help="of an observation (default: %(default)s)")
    add("--prompt-key", default="prompt", help="of an observation (default: %(default)s)")


def _serve_policy(arguments: argparse.Namespace) -> int:
    from v2w_gym.policies import registry
    from v2w_gym.serve.answers import Keys
    from v2w_gym.serve.policy_server import PolicyServer, ServeConfig

    key = None
    if arguments.api_key_env is not None and not (key := os.environ.get(arguments.api_key_env)):
        raise ValueError(f"no key in the environment; type: export {arguments.api_key_env}=...")
    sys.path.append(os.getcwd())  # a policy beside the user is found by module:attr
    config = ServeConfig(
        arguments.host,
        arguments.port,
        arguments.shared,
        arguments.connections,
        Keys(arguments.image_key, arguments.prompt_key),
    )
    server = PolicyServer(
        lambda: registry.resolve(arguments.policy), config, api_key=key, metadata={"policy": arguments.policy}
    )
    print(f"{arguments.policy} at {server.url}; stop with Ctrl-C", flush=True)
    try:
        server.serve_forever()
    finally:
        server.close()
    return 0


SERVE_POLICY = {
    "serve-policy": Command(
        "serve a policy to openpi clients, over a websocket", _add_serve_policy, _serve_policy
    )
}
