"""The same policy here and behind openpi's websocket protocol: ``python examples/policy_openpi.py``.

The server runs in this process, on loopback. Elsewhere it is ``v2w serve-policy stage-140``, or openpi's own
``scripts/serve_policy.py``, and the policy is named by its address: ``v2w rank --policy ws://HOST:8000``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from v2w_gym import evaluation, policies
from v2w_gym.evaluation.ledger import Ledger
from v2w_gym.policies.remote import RemotePolicy
from v2w_gym.serve.policy_server import PolicyServer, ServeConfig


def main() -> None:
    """Rank both, and hold the verdicts of every start against each other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--policy", default="stage-140", help="shipped name or module:attr")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/policy-openpi"))
    arguments = parser.parse_args()

    with PolicyServer(lambda: policies.resolve(arguments.policy), ServeConfig(port=0)) as server:
        url = f"ws://127.0.0.1:{server.port}"
        print(f"{arguments.policy} is served at {url}")
        contenders = {"here": policies.resolve(arguments.policy), "far": RemotePolicy(url)}
        summary = evaluation.rank(
            arguments.world, contenders, episodes=arguments.episodes, seed=0, out=arguments.out
        )
    print(evaluation.format_table(summary))

    verdicts: dict[str, dict[str, str]] = {name: {} for name in contenders}
    for record in Ledger(arguments.out / "ledger.jsonl").records:
        verdicts[record.policy][record.start_id] = record.verdict
    equal = sum(verdicts["far"].get(start) == verdict for start, verdict in verdicts["here"].items())
    print(f"\nequal verdicts from {equal} of {len(verdicts['here'])} starts")


if __name__ == "__main__":
    main()
