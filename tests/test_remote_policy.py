"""A policy on another machine: openpi's protocol on both sides."""

import gc
import socket
import threading
import urllib.request

import numpy as np
import pytest
from openpi_peer import OpenpiClient, Peer, openpi_server, pack
from PIL import Image
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect

from v2w_gym.policies import load, registry
from v2w_gym.policies.letterbox import resize_with_pad
from v2w_gym.policies.remote import RemotePolicy
from v2w_gym.policies.remote_config import RemoteConfig
from v2w_gym.policies.simple import ConstantPolicy
from v2w_gym.serve.answers import Keys
from v2w_gym.serve.policy_server import PolicyServer, ServeConfig
from v2w_gym.wire import FarSideError, OutageError
from v2w_gym.wire.openpi import Endpoint
from v2w_gym.wire.openpi import OpenpiClient as OurClient

FREE = ServeConfig(port=0)
QUICK = {"connect_timeout_s": 2.0, "call_timeout_s": 2.0, "attempts": 2, "backoff_s": 0.01}


def observed(slots=2, side=8, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (slots, side, side, 3), dtype=np.uint8)
    return {"pixels": pixels}


def sums(observation):
    """A far policy: chunks (3, 4) that tell the observations apart."""
    level = observation["observation/image"].mean() / 255
    return {"actions": np.full((3, 4), level) + np.arange(3)[:, None] / 100}


def started(url, slots=2, instruction="close the drawer", **options):
    policy = RemotePolicy(url, RemoteConfig(**(QUICK | options)))
    policy.reset([instruction] * slots, list(range(slots)))
    return policy


class Remembering:
    """Tells how often its episode has acted, and what it was asked to do."""

    def __init__(self):
        self.steps, self.told = 0, ""

    def reset(self, instruction, slots):
        self.steps, self.told = 0, instruction[0]

    def act(self, observation):
        self.steps += 1
        return [[self.steps, len(self.told), 0, 0]] * len(observation["pixels"])


# our client, their server


def test_our_client_speaks_to_an_openpi_server():
    asked = []

    def infer(observation):
        asked.append(observation)
        return sums(observation)

    with openpi_server(infer, {"robot": "arm"}) as server:
        policy = started(server.url, execute=2)
        seen = observed()
        expected = seen["pixels"].reshape(2, -1).mean(1) / 255
        for step in range(3):
            np.testing.assert_allclose(policy.act(seen)[:, 0], expected + 0.01 * (step % 2), atol=1e-6)
        policy.close()
    assert len(asked) == 4  # two slots, asked at steps 0 and 2
    assert set(asked[0]) == {"observation/image", "prompt"}
    assert asked[0]["prompt"] == "close the drawer"
    np.testing.assert_array_equal(asked[1]["observation/image"], seen["pixels"][1])


def test_every_wire_detail_of_a_request():
    """No compression, no extensions, the key in its header, binary frames, bytes as openpi packs them."""
    seen = {}

    def converse(websocket):
        seen["headers"] = websocket.request.headers
        websocket.send(pack({}))
        seen["frame"] = websocket.recv()
        websocket.send(pack({"actions": np.zeros((1, 4))}))

    with Peer(converse) as server:
        client = OurClient(Endpoint(server.url, api_key="sesame"))
        request = {
            "observation/image": observed()["pixels"][0],
            "prompt": "go",
            "observation/state": np.zeros(7),
        }
        client.infer(request)
        client.close()
    assert seen["headers"]["Authorization"] == "Api-Key sesame"
    assert "Sec-WebSocket-Extensions" not in seen["headers"]
    assert seen["frame"] == pack(request)


def test_keys_constants_columns_and_sizes_are_settings(tmp_path):
    asked = []

    def infer(observation):
        asked.append(observation)
        return {"plan": np.arange(14, dtype=np.float64).reshape(2, 7)}

    with openpi_server(infer) as server:
        file = tmp_path / "remote.yaml"
        file.write_text(
            f"url: {server.url}\nactions: plan\ncolumns: [6, 0]\nresize: 16\nexecute: 2\n"
            "observation: {image/front: pixels, image/wrist: pixels, task: instruction}\n"
            "constants: {state: [0, 0.5]}\n"
        )
        policy = registry.resolve(f"remote:{file}")
        policy.reset(["go"], [0])
        assert policy.act(observed(1, side=8)).tolist() == [[6, 0]]
        assert policy.act(observed(1, side=8)).tolist() == [[13, 7]]
        policy.close()
    (request,) = asked
    assert request["image/wrist"].shape == (16, 16, 3)
    assert request["state"].tolist() == [0, 0.5]
    assert request["task"] == "go"


def test_actions_are_made_to_fit_a_world(tiny_world, tmp_path):
    """The far side speaks of another order and range; the world takes -1..1."""
    (tmp_path / "actions.yaml").write_text(
        "names: [gripper, dx, dy, dz]\nunits: '1'\nnormaliser: {kind: bounds, "
        "low: [-2, -2, -2, -2], high: [2, 2, 2, 2]}\n"
    )
    options = f"contract={tmp_path / 'actions.yaml'},world={tiny_world},clip=true"
    with openpi_server(lambda _: {"actions": np.array([[0.1, 0.2, 0.3, 0.9]])}) as server:
        policy = registry.resolve(f"{server.url},{options}")
        policy.reset(["go"], [0])
        np.testing.assert_allclose(policy.act(observed(1)), [[0.4, 0.6, 1.0, 0.2]], atol=1e-6)
    with pytest.raises(ValueError, match="contract"):
        registry.resolve(f"ws://127.0.0.1:9,world={tiny_world}")


def test_contract_of_a_file(tmp_path):
    file = tmp_path / "remote.yaml"
    file.write_text(
        "url: ws://127.0.0.1:9\ncontract: {names: [dx, gripper], units: ['1', '1'], "
        "normaliser: {kind: bounds, low: [-1, 0], high: [1, 1]}}\n"
    )
    contract = registry.resolve(f"remote:{file}").contract
    assert contract.names == ("dx", "gripper")
    assert contract.normaliser.high == (1, 1)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("ws://127.0.0.1:9,exekute=3", "did you mean 'execute'"),
        ("ws://127.0.0.1:9,execute=0", "execute"),
        ("ws://127.0.0.1:9,resize=0", "resize"),
        ("ws://127.0.0.1:9,columns=-1/2", "columns"),
        ("ws://127.0.0.1:9,attempts=0", "attempts"),
        ("ws://127.0.0.1:9,call_timeout_s=0", "call_timeout_s"),
        ("ws://127.0.0.1:9,api_key_env=NO_SUCH_KEY", "export NO_SUCH_KEY="),
        ("ws://user:secret@127.0.0.1:9", "api_key_env"),
        ("ws:127.0.0.1:9", "ws://127.0.0.1:8000"),
        ("ws://127.0.0.1:99999", "is no address"),
        ("remote:no_such.yaml", "no_such.yaml"),
    ],
)
def test_a_wrong_spec_is_refused_before_anything_is_sent(spec, why):
    with pytest.raises(ValueError, match=why) as refusal:
        registry.resolve(spec)
    assert "secret" not in str(refusal.value).replace(spec, "")


def test_resizing_is_that_of_openpis_client():
    """Their ``_resize_with_pad_pil``, spelled out: int() of sizes, PIL's bilinear, zeros around."""
    for h, w, side in ((64, 64, 224), (480, 640, 224), (37, 90, 50), (3, 300, 20), (224, 224, 224)):
        image = np.random.default_rng(h).integers(0, 256, (h, w, 3), dtype=np.uint8)
        theirs = image
        if (h, w) != (side, side):
            ratio = max(w / side, h / side)
            small = Image.fromarray(image).resize((int(w / ratio), max(1, int(h / ratio))), Image.BILINEAR)
            square = Image.new("RGB", (side, side), 0)
            square.paste(
                small, (max(0, int((side - small.width) / 2)), max(0, int((side - small.height) / 2)))
            )
            theirs = np.asarray(square)
        np.testing.assert_array_equal(resize_with_pad(image, side), theirs)


# their client, our server


def test_an_openpi_client_speaks_to_our_server():
    with PolicyServer(lambda: load("linear"), FREE, metadata={"policy": "linear"}) as server:
        client = OpenpiClient(f"ws://127.0.0.1:{server.port}")
        assert client.metadata["policy"] == "linear"
        pixels = observed(1, side=64)["pixels"]
        first = client.infer({"observation/image": pixels[0], "prompt": "close the drawer"})
        second = client.infer({"observation/image": pixels[0], "prompt": "close the drawer"})
        client.close()
        health = urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=5)
        assert (health.status, health.read()) == (200, b"OK\n")
    np.testing.assert_array_equal(first["actions"], load("linear").act({"pixels": pixels}))
    assert first["actions"].shape == (1, 4)
    assert set(first["server_timing"]) == {"infer_ms"}
    assert set(second["server_timing"]) == {"infer_ms", "prev_total_ms"}
    assert second["policy_timing"]["infer_ms"] >= 0


def test_chunks_are_handed_out_whole():
    with openpi_server(sums) as far:
        config = RemoteConfig(execute=2, **QUICK)
        with PolicyServer(lambda: RemotePolicy(far.url, config), FREE) as server:
            client = OpenpiClient(f"ws://127.0.0.1:{server.port}")
            answer = client.infer({"observation/image": observed()["pixels"][0], "prompt": "go"})
            client.close()
    assert answer["actions"].shape == (3, 4)


@pytest.mark.parametrize(
    "observation",
    [
        {"prompt": "go"},
        {"observation/image": np.zeros((4, 4, 3)), "prompt": "go"},
        {"observation/image": np.zeros((2, 4, 4, 3), np.uint8), "prompt": "go"},
        {"observation/image": np.zeros((4, 4, 3), np.uint8), "prompt": 3},
        ["no", "map"],
    ],
    ids=["no image", "floats", "a batch", "no text", "a list"],
)
def test_a_wrong_observation_is_answered_as_openpi_does(observation):
    """A text frame with the traceback, then the server closes with 1011; others are served on."""
    with PolicyServer(lambda: ConstantPolicy([0.0] * 4), FREE) as server:
        client = OpenpiClient(f"ws://127.0.0.1:{server.port}")
        with pytest.raises(RuntimeError, match=r"Error in inference server:\nTraceback"):
            client.infer(observation)
        with pytest.raises(ConnectionClosedError) as closed:
            client.websocket.recv()
        assert closed.value.rcvd.code == 1011
        other = OpenpiClient(f"ws://127.0.0.1:{server.port}")
        assert "actions" in other.infer({"observation/image": np.zeros((4, 4, 3), np.uint8), "prompt": "go"})
        other.close()


def test_junk_frames_do_not_stop_the_server():
    with PolicyServer(lambda: ConstantPolicy([0.0] * 4), FREE) as server:
        for junk in (b"\xdd\xff\xff\xff\xff", b"", "text", b"\xc1"):
            client = OpenpiClient(f"ws://127.0.0.1:{server.port}")
            client.websocket.send(junk)
            assert "WireError" in client.websocket.recv()
            client.close()
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(b"not even http\r\n\r\n")
        client = OpenpiClient(f"ws://127.0.0.1:{server.port}")
        client.close()


def test_keys_are_asked_for():
    with PolicyServer(lambda: ConstantPolicy([0.0] * 4), FREE, api_key="sesame") as server:
        url = f"ws://127.0.0.1:{server.port}"
        OpenpiClient(url, api_key="sesame").close()
        for key in (None, "wrong"):
            with pytest.raises(OutageError, match=r"401.*api_key_env"):
                OurClient(Endpoint(url, api_key=key))
    with pytest.raises(ValueError, match="--api-key-env"):
        PolicyServer(lambda: ConstantPolicy([0.0]), ServeConfig(host="0.0.0.0", port=0))


def test_browsers_and_crowds_are_refused():
    with PolicyServer(lambda: ConstantPolicy([0.0] * 4), ServeConfig(port=0, connections=1)) as server:
        with pytest.raises(InvalidStatus) as refusal:
            connect(f"ws://127.0.0.1:{server.port}", origin="http://example.com").__enter__()
        assert refusal.value.response.status_code == 403
        client = OpenpiClient(f"ws://127.0.0.1:{server.port}")
        with pytest.raises(OutageError, match=r"503 \(too many connections\)"):
            OurClient(Endpoint(f"ws://127.0.0.1:{server.port}"))
        client.close()


def test_a_key_that_the_far_side_repeats_is_not_shown():
    def refuse(connection, request):
        return connection.respond(500, f"headers: {request.headers['Authorization']}")

    for peer in (
        Peer(lambda websocket: websocket.send("no such key: sesame")),
        Peer(wait_for_nobody, refuse),
    ):
        with peer as server, pytest.raises((FarSideError, OutageError), match=r"\[key\]") as told:
            OurClient(Endpoint(server.url, api_key="sesame"))
        assert "sesame" not in str(told.value)


def wait_for_nobody(websocket):
    raise AssertionError("it was let in")


def test_a_number_called_seed_is_no_method():
    class Numbered(ConstantPolicy):
        seed = 3

    with PolicyServer(lambda: Numbered([0.5] * 4), FREE) as server:
        client = OpenpiClient(f"ws://127.0.0.1:{server.port}")
        answer = client.infer({"observation/image": observed()["pixels"][0], "prompt": "go"})
        client.close()
    assert answer["actions"].tolist() == [[0.5] * 4]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_policy_at_an_address_of_the_newer_kind():
    with PolicyServer(lambda: ConstantPolicy([0.5] * 4), ServeConfig(host="::1", port=0)) as server:
        assert server.url == f"ws://[::1]:{server.port}"
        policy = started(server.url, slots=1)
        assert policy.act(observed(1)).tolist() == [[0.5] * 4]
        policy.close()


def test_no_proxy_is_asked_for_this_machine(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with PolicyServer(lambda: ConstantPolicy([0.5] * 4), FREE) as server:
        OurClient(Endpoint(server.url)).close()
    with pytest.raises(OutageError, match=r"cannot be reached .*(proxy|refused)"):  # others are its matter
        OurClient(Endpoint("ws://policies.example:8000"))


# both sides ours


def test_one_object_serves_one_connection_at_a_time(monkeypatch):
    """Else two clients' episodes would be one to it."""
    monkeypatch.setattr("v2w_gym.serve.policy_server._CLOSING_S", 0.2)
    only = Remembering()
    with PolicyServer(lambda: only, FREE) as server:
        url = f"ws://127.0.0.1:{server.port}"
        policy = started(url, slots=1)
        for _ in range(3):  # episodes, each with a connection
            policy.reset(["go"], [0])
            assert policy.act(observed(1))[0, 0] == 1
        with pytest.raises(FarSideError, match=r"one object that another connection uses.*--shared"):
            started(url, slots=1)
        assert policy.act(observed(1))[0, 0] == 2
        policy.close()


def test_a_policy_that_is_dropped_leaves_no_connection_behind():
    with PolicyServer(Remembering, ServeConfig(port=0, connections=1)) as server:
        for _ in range(3):
            policy = started(f"ws://127.0.0.1:{server.port}", slots=1, attempts=8)
            assert policy.act(observed(1))[0, 0] == 1
            del policy
            gc.collect()


def test_closing_the_server_closes_its_connections_whatever_websockets_does():
    """Before version 17, a server of theirs leaves connections open, and the process never ends."""
    with PolicyServer(Remembering, FREE) as server:
        client = OpenpiClient(f"ws://127.0.0.1:{server.port}")
        shutdown = server._server.shutdown
        waiting = threading.Thread(target=shutdown, args=(False,), daemon=True)
        server._server.shutdown = waiting.start
    with pytest.raises(ConnectionClosedOK) as closed:
        client.websocket.recv(timeout=10)
    assert closed.value.rcvd.code == 1001
    waiting.join(10)
    assert not waiting.is_alive()


def test_every_slot_and_episode_has_a_policy_of_its_own():
    with PolicyServer(Remembering, ServeConfig(port=0, keys=Keys("rgb", "text"))) as server:
        keys = {"rgb": "pixels", "text": "instruction"}
        policy = started(f"ws://127.0.0.1:{server.port}", slots=3, observation=keys)
        for step in (1, 2):
            assert policy.act(observed(3))[:, 0].tolist() == [step] * 3
        policy.reset(["go"], [1])
        assert policy.act(observed(3)).tolist() == [[3, 16, 0, 0], [1, 2, 0, 0], [3, 16, 0, 0]]
        policy.close()


def test_a_shared_policy_begins_anew_with_every_call():
    with PolicyServer(Remembering, ServeConfig(port=0, shared=True)) as server:
        policy = started(f"ws://127.0.0.1:{server.port}")
        assert [policy.act(observed())[0, 0] for _ in range(2)] == [1, 1]
        policy.close()


def test_answers_do_not_depend_on_the_wire():
    local = load("stage-140")
    with PolicyServer(lambda: load("stage-140"), FREE) as server:
        far = started(f"ws://127.0.0.1:{server.port}")
        for seed in range(3):
            seen = observed(side=64, seed=seed)
            np.testing.assert_allclose(far.act(seen), local.act(seen), atol=1e-6)
        far.close()
