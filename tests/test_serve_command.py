"""The command that serves, the addresses it takes, and what its clients need."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from served import tiny_server

from v2w_gym import cli
from v2w_gym.envs.protocol import TOKEN_VARIABLE
from v2w_gym.envs.remote import RemoteEnv


@pytest.fixture(scope="module")
def url(tiny_world):
    with tiny_server(tiny_world, slots=4) as url:
        yield url


def test_the_command_refuses_what_makes_no_sense(tiny_world, capsys):
    for arguments, message in (
        (["--host", "0.0.0.0"], TOKEN_VARIABLE),
        (["--slots", "0"], "slots must be at least 1"),
        (["reward=dens"], "reward must be one of"),
        (["rewrad=dense"], "did you mean 'reward'"),
        (["dense"], "a setting looks like"),
        (["sampler={"], "is no YAML"),
        (["output=torch"], "local environment: gym.make(ID, output='torch')"),
        (["obs_type=pixels"], "Vid2World-Remote-v0\", url=..., obs_type='pixels')"),
        (["--send-s", "0"], "send_s must be positive"),
        (["--idle-s", "nan"], "idle_s and send_s must be positive"),
    ):
        assert cli.main(["serve", "--world", str(tiny_world), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_the_command_hands_its_waits_to_the_server(tiny_world, monkeypatch):
    given = []
    monkeypatch.setattr("v2w_gym.serve.environments.serve", lambda world, config, *_: given.append(config))
    assert cli.main(["serve", "--world", str(tiny_world), "--idle-s", "90", "--send-s", "300"]) == 0
    assert (given[0].idle_s, given[0].send_s) == (90, 300)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_server_at_an_address_of_the_newer_kind(tiny_world):
    with tiny_server(tiny_world, slots=1, host="::1") as url:
        assert url.startswith("ws://[::1]:")
        RemoteEnv(url).close()


def test_no_proxy_is_asked_for_an_environment(url, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    RemoteEnv(url).close()


def test_the_client_needs_no_torch(url):
    program = f"""
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("there is no torch here")
sys.meta_path.insert(0, NoTorch())
import gymnasium
env = gymnasium.make("v2w_gym:Vid2World-Remote-v0", url={url!r})
env.reset(seed=0)
env.step(env.action_space.sample())
env.close()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
