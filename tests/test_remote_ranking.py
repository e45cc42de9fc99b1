"""A ranking in which one policy lives on another machine, and that machine goes away."""

import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from foreground import foreground
from openpi_peer import Gone, OpenpiClient, openpi_server

from v2w_gym import cli
from v2w_gym.evaluation import rank
from v2w_gym.evaluation.ledger import Ledger
from v2w_gym.policies.remote import RemotePolicy
from v2w_gym.policies.remote_config import RemoteConfig
from v2w_gym.policies.simple import ConstantPolicy
from v2w_gym.serve.policy_server import PolicyServer, ServeConfig

CONFIG = RemoteConfig(attempts=2, backoff_s=0.01, connect_timeout_s=5, call_timeout_s=5)


def ranked(world, policies, out=None):
    return rank(world, policies, episodes=4, seed=0, batch_size=2, out=out, progress=False)


def facts(out, policy):
    records = [r for r in Ledger(out / "ledger.jsonl").records if r.policy == policy]
    return {r.start_id: (r.verdict, r.probabilities) for r in records}


class Brightening:
    """Goes by how each slot's frame differs from the first one that it saw: it remembers, slot by slot."""

    def __init__(self):
        self.first = {}

    def reset(self, instruction, slots):
        for slot in slots:
            self.first.pop(slot, None)

    def act(self, observation):
        levels = [float(frame.mean()) for frame in observation["pixels"]]
        change = [level - self.first.setdefault(slot, level) for slot, level in enumerate(levels)]
        return np.array([[np.sin(c), np.cos(c), 0, 0] for c in change], np.float32)


@pytest.mark.slow
def test_a_served_policy_imagines_the_same_episodes_as_a_local_one(tiny_world, tmp_path):
    with PolicyServer(Brightening, ServeConfig(port=0)) as server:
        far = RemotePolicy(f"ws://127.0.0.1:{server.port}", CONFIG)
        ranked(tiny_world, {"far": far, "local": Brightening()}, tmp_path)
        far.close()
    assert len(facts(tmp_path, "local")) == 4
    assert facts(tmp_path, "far") == facts(tmp_path, "local")


@pytest.mark.slow
def test_a_dying_server_ends_its_policy_alone_and_a_rerun_goes_on(tiny_world, tmp_path):
    calls = []

    def infer(observation):
        calls.append(1)
        if len(calls) > dies_after:
            raise Gone
        return {"actions": np.full((1, 4), observation["observation/image"].mean() / 255)}

    def contenders(url):
        return {"far": RemotePolicy(url, CONFIG), "near": ConstantPolicy([0.5] * 4)}

    dies_after = 10**9
    with openpi_server(infer) as server:
        ranked(tiny_world, contenders(server.url), tmp_path / "whole")
    assert len(calls) == 4 * 6

    calls.clear()
    dies_after = 15  # in the second batch, at its second step
    with openpi_server(infer) as server:
        summary = ranked(tiny_world, contenders(server.url), tmp_path / "broken")
    far, near = (next(p for p in summary["policies"] if p["name"] == name) for name in ("far", "near"))
    assert "OutageError" in far["error"]
    assert server.url in far["error"]
    assert "uint8 (48, 48, 3)" in far["error"]
    assert (near["error"], near["episodes"]) == (None, 4)
    assert len(facts(tmp_path / "broken", "far")) == 2  # what was finished is kept; nothing counts as failure

    calls.clear()
    dies_after = 10**9
    with openpi_server(infer) as server:
        summary = ranked(tiny_world, contenders(server.url), tmp_path / "broken")
    assert len(calls) == 2 * 6  # only what was missing
    assert all(policy["error"] is None for policy in summary["policies"])
    assert facts(tmp_path / "broken", "far") == facts(tmp_path / "whole", "far")


def test_rank_takes_an_address_and_says_who_is_not_there(tiny_world, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    arguments = ["--world", str(tiny_world), "--episodes", "2", "--out", str(tmp_path / "out")]
    spec = f"ws://127.0.0.1:{port},attempts=1"
    assert cli.main(["rank", *arguments, "--policy", spec, "--policy", "random"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"the policy server at ws://127.0.0.1:{port} cannot be reached" in printed


def test_serve_policy_refuses_what_it_cannot_serve(capsys):
    for arguments, why in (
        (["no-such-policy"], "unknown policy"),
        (["still", "--host", "0.0.0.0"], "--api-key-env"),
        (["still", "--api-key-env", "NO_SUCH_KEY"], "export NO_SUCH_KEY="),
        (["still", "--port", "70000"], "65535"),
    ):
        assert cli.main(["serve-policy", *arguments]) == cli.USER_ERROR
        assert why in capsys.readouterr().err


@pytest.mark.slow
def test_serve_policy_from_its_first_line_to_ctrl_c():
    command = [sys.executable, "-m", "v2w_gym", "serve-policy", "converged", "--port", "0"]
    process = foreground(command, stderr=subprocess.PIPE)
    try:
        url = process.stdout.readline().split()[2].rstrip(";")
        client = OpenpiClient(url)
        answer = client.infer({"observation/image": np.zeros((64, 64, 3), np.uint8), "prompt": "close it"})
        assert answer["actions"].shape == (1, 4)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == cli.STOPPED
        client.close()
    finally:
        process.kill()
