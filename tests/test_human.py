"""People as a judge: the queue, their verdicts, the judge, and who may talk to the page's server."""

from __future__ import annotations

import base64
import http.client
import io
import json
import multiprocessing
import os
import signal
import socket
import struct
import sys
import threading
import urllib.request

import numpy as np
import pytest
from foreground import foreground
from PIL import Image

from v2w_gym import cli
from v2w_gym.rewards.human import HumanConfig, HumanJudge
from v2w_gym.rewards.human_labels import Label, LabelFile, agreement
from v2w_gym.rewards.human_page import LabelServer
from v2w_gym.rewards.human_queue import ClipQueue, clip_hash
from v2w_gym.rewards.judge import Clip
from v2w_gym.rewards.judges import open_judge


def clip(seed=0, instruction="close the drawer", size=(12, 16)):
    frames = np.random.default_rng(seed).integers(0, 256, (4, *size, 3), dtype=np.uint8)
    return Clip(frames, instruction, fps=3.0)


def judge(folder, **others):
    return HumanJudge.from_config(HumanConfig(str(folder), **others))


def say(folder, what, **raters):
    """Verdicts by rater on a clip."""
    for rater, letter in raters.items():
        verdict = {"y": "success", "n": "failure", "u": "unscorable"}[letter]
        ClipQueue(folder).labels.append(Label(clip_hash(what), rater, verdict, "2026-01-01T00:00:00+00:00"))


def test_a_clip_that_nobody_judged_waits_and_then_has_its_verdict(tmp_path):
    queue, people = tmp_path / "my queue", judge(tmp_path / "my queue")
    (found,) = people.judge([clip()])
    assert found.verdict(people.threshold) == "unscorable"
    assert f"type: v2w label '{queue}'" in found.reason
    assert ClipQueue(queue).names(seed=0) == [clip_hash(clip())]
    loaded = ClipQueue(queue).load(clip_hash(clip()))
    assert (loaded.instruction, loaded.fps) == ("close the drawer", 3.0)
    assert np.array_equal(loaded.frames, clip().frames)
    say(queue, clip(), anna="y")
    (found,) = people.judge([clip()])
    assert (found.probability, found.votes, found.reason) == (1.0, (1.0,), "people: 1 success")


@pytest.mark.parametrize(
    ("said", "verdict", "probability"),
    [
        ("y", "success", 1.0),
        ("n", "failure", 0.0),
        ("u", "unscorable", None),
        ("yyn", "success", 2 / 3),
        ("nnyu", "failure", 1 / 3),
        ("yn", "unscorable", None),
        ("yuu", "unscorable", None),
    ],
)
def test_the_verdict_of_several_people_is_that_of_most(tmp_path, said, verdict, probability):
    say(tmp_path, clip(), **{f"rater{i}": letter for i, letter in enumerate(said)})
    (found,) = judge(tmp_path).judge([clip()])
    assert found.verdict(0.5) == verdict
    assert found.probability == (None if probability is None else pytest.approx(probability))
    assert len(found.votes) == len(said)


def test_a_judge_may_ask_for_several_people(tmp_path):
    two = judge(tmp_path, raters=2)
    say(tmp_path, clip(), anna="y")
    (found,) = two.judge([clip()])
    assert found.probability is None
    assert "1 of 2 people have judged it; it waits" in found.reason
    say(tmp_path, clip(), bert="y")
    (found,) = two.judge([clip()])
    assert found.reason == "people: 2 success; 1 of 1 pairs agree"


def test_a_later_verdict_corrects_an_earlier(tmp_path):
    for letter in "nuy":
        say(tmp_path, clip(), anna=letter)
    assert judge(tmp_path).judge([clip()])[0].votes == (1.0,)
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) == 3


def test_frames_and_instruction_are_what_is_judged():
    other = Clip(clip().frames, "close the drawer", fps=9.0)
    assert clip_hash(other) == clip_hash(clip())
    assert len({clip_hash(clip()), clip_hash(clip(1)), clip_hash(clip(instruction="open it"))}) == 3


def test_the_queue_tells_nothing_of_policies(tmp_path):
    judge(tmp_path).judge([clip()])
    (file,) = (tmp_path / "clips").iterdir()
    with np.load(file) as content:
        assert sorted(content.files) == ["fps", "frames", "instruction"]


def test_a_seed_shuffles_and_a_new_clip_moves_no_other(tmp_path):
    queue = ClipQueue(tmp_path)
    for seed in range(12):
        queue.add(clip(seed))
    before = queue.names(seed=3)
    assert before == queue.names(seed=3)
    assert sorted(before) == sorted(queue.names(seed=4))
    assert before != queue.names(seed=4)
    added = queue.add(clip(99))
    assert [name for name in queue.names(seed=3) if name != added] == before


def test_what_a_killed_process_left_damages_nothing_else(tmp_path):
    say(tmp_path, clip(), anna="y")
    path = tmp_path / "labels.jsonl"
    whole = path.read_bytes()
    for torn in (whole[:30], b"\xff\xfe", b"[1]", b'{"clip": 5}', b"[" * 5000):
        path.write_bytes(whole + torn)
        with pytest.warns(UserWarning, match="line 2 is no label"):
            assert judge(tmp_path).judge([clip()])[0].probability == 1.0
        say(tmp_path, clip(1), anna="n")
        with pytest.warns(UserWarning, match="line 2"):
            found = judge(tmp_path).judge([clip(), clip(1)])
        assert [one.probability for one in found] == [1.0, 0.0]


def test_a_damaged_clip_is_told(tmp_path):
    queue = ClipQueue(tmp_path)
    path = tmp_path / "clips" / f"{queue.add(clip())}.npz"
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole.replace(whole[200:204], b"\0\0\0\0")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged; delete it"):
            queue.load(path.stem)
    for name in ("0" * 32, "../labels", ""):
        with pytest.raises(FileNotFoundError):
            queue.load(name)


def _append(path, rater):
    for number in range(20):
        LabelFile(path).append(Label(f"{number:032x}", rater, "success", "now"))


def test_several_processes_append_whole_lines(tmp_path):
    path, context = tmp_path / "labels.jsonl", multiprocessing.get_context("fork")
    work = [context.Process(target=_append, args=(path, f"rater{i}")) for i in range(3)]
    for process in work:
        process.start()
    for process in work:
        process.join()
    labels = LabelFile(path).read()
    assert {len(by_rater) for by_rater in labels.values()} == {3}
    assert len(labels) == 20
    assert agreement(labels) == (60, 60)


def test_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_judge("human").judge([clip()])[0].probability is None
    assert (tmp_path / "runs" / "label" / "clips").is_dir()
    assert judge(tmp_path).hash != judge(tmp_path, raters=2).hash
    for wrong in ({"folder": ""}, {"folder": "x", "raters": 0}):
        with pytest.raises(ValueError, match=r"folder|raters"):
            HumanConfig(**wrong)
    with pytest.raises(ValueError, match="clip 0"):
        judge(tmp_path).judge([Clip(clip().frames[0], "x")])


@pytest.fixture
def served(tmp_path):
    queue = ClipQueue(tmp_path)
    for seed in range(3):
        queue.add(clip(seed))
    with LabelServer(queue, "anna", seed=1) as server:
        yield server


def request(server, method, path, body=None, **headers):
    """Status, headers and body of a request with exactly these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    data = b"" if body is None else json.dumps(body).encode()
    sent = {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json"}
    sent |= {"Content-Length": str(len(data)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    for name, value in sent.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(data)
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def post(server, values, **headers):
    return request(server, "POST", f"/{server.token}/label", values, **headers)[0]


def test_the_page_shows_clips_and_writes_verdicts_down(served):
    with urllib.request.urlopen(served.url) as page:
        assert b"Did the robot do this?" in page.read()
        assert page.headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    for name in ("label.css", "label.js"):
        assert request(served, "GET", f"/{served.token}/{name}")[0] == 200
    listed = json.loads(request(served, "GET", f"/{served.token}/clips")[2])
    assert [entry["clip"] for entry in listed["clips"]] == served.queue.names(seed=1)
    name = listed["clips"][0]["clip"]
    shown = json.loads(request(served, "GET", f"/{served.token}/clip/{name}")[2])
    assert (shown["instruction"], shown["fps"], len(shown["frames"])) == ("close the drawer", 3.0, 4)
    data = base64.b64decode(shown["frames"][2].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), served.queue.load(name).frames[2])
    assert post(served, {"clip": name, "verdict": "failure"}) == 200
    assert served.queue.labels.read() == {name: {"anna": "failure"}}
    again = json.loads(request(served, "GET", f"/{served.token}/clips")[2])
    assert again["clips"][0]["verdict"] == "failure"


def test_a_damaged_clip_stops_nobody(served):
    damaged, whole = served.queue.names(seed=1)[:2]
    (served.queue.folder / "clips" / f"{damaged}.npz").write_bytes(b"torn")
    status, _, body = request(served, "GET", f"/{served.token}/clip/{damaged}")
    assert (status, list(json.loads(body))) == (200, ["unreadable"])
    assert f"{damaged}.npz is damaged" in json.loads(body)["unreadable"]
    assert post(served, {"clip": whole, "verdict": "success"}) == 200


def test_large_frames_travel_as_jpeg(served):
    name = served.queue.add(clip(7, size=(300, 300)))
    assert served.clip(name)["frames"][0].startswith("data:image/jpeg;base64,")


def test_others_are_refused(served):
    label = {"clip": served.queue.names(seed=1)[0], "verdict": "success"}
    here = f"127.0.0.1:{served.port}"
    assert post(served, label, Host="evil.example") == 403
    assert post(served, label, Host=None) == 403
    assert post(served, label, Host=f"evil.example:{served.port}") == 403
    assert post(served, label, Host="127.0.0.1:1") == 403
    for origin in ("http://evil.example", "null", f"https://{here}", f"http://{here}.evil.example", ""):
        assert post(served, label, Origin=origin) == 403, origin
    assert post(served, label, Content_Type="text/plain") == 415
    assert post(served, label, Content_Type="application/x-www-form-urlencoded") == 415
    for path in (
        "/",
        "/label",
        f"/{served.token}x/label",
        f"/{served.token[:-1]}/label",
        "//label",
    ):
        assert request(served, "POST", path, label)[0] == 404, path
    assert served.queue.labels.read() == {}
    assert post(served, label, Origin=f"http://{here}") == 200
    assert (
        post(served, label, Host=f"localhost:{served.port}", Origin=f"http://localhost:{served.port}") == 200
    )


def test_what_is_no_label_is_refused(served):
    name = served.queue.names(seed=1)[0]
    for wrong in (
        None,
        [],
        {},
        {"clip": name},
        {"clip": name, "verdict": "maybe"},
        {"clip": 5, "verdict": "success"},
    ):
        assert post(served, wrong) == 400, wrong
    assert post(served, {"clip": "0" * 32, "verdict": "success"}) == 404
    assert post(served, {"clip": "../../x", "verdict": "success"}) == 404
    assert post(served, {"clip": name, "verdict": "success", "pad": "x" * 5000}) == 413
    assert post(served, {"clip": name, "verdict": "success"}, Content_Length="many") == 413
    for path in ("clip/../labels.jsonl", "clip/" + "0" * 32, "labels.jsonl", "clip/"):
        assert request(served, "GET", f"/{served.token}/{path}")[0] == 404
    assert served.queue.labels.read() == {}


def test_it_listens_to_this_machine_alone(served):
    assert served._server.server_address[0] == "127.0.0.1"
    with pytest.raises(ValueError, match="--rater NAME"):
        LabelServer(served.queue, " ")


def test_a_page_that_is_left_is_no_trouble(tmp_path, capfd):
    queue = ClipQueue(tmp_path)
    name = queue.add(clip(size=(250, 250)))
    server = LabelServer(queue, "anna")
    server._server.daemon_threads, server._server.block_on_close = False, True  # close waits for all answers
    with server:
        left = socket.create_connection(("127.0.0.1", server.port))
        left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not goodbye
        line = f"GET /{server.token}/clip/{name} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
        left.sendall(line.encode())
        left.close()
        assert request(server, "GET", f"/{server.token}/clips")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_machine_that_knows_no_name_is_told_what_to_type(tmp_path, monkeypatch, capsys):
    def nobody():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert cli.main(["label", str(tmp_path / "queue")]) == 2
    assert "say --rater NAME" in capsys.readouterr().err
    assert not (tmp_path / "queue").exists()


@pytest.mark.slow
def test_the_command_serves_until_it_is_stopped(tmp_path):
    judge(tmp_path).judge([clip()])
    command = [sys.executable, "-m", "v2w_gym", "label", str(tmp_path), "--rater", "anna"]
    with foreground(command) as process:
        timer = threading.Timer(100, process.kill)
        timer.start()
        assert process.stdout.readline() == "0 of 1 clips are judged, by nobody\n"
        url = process.stdout.readline().removeprefix("open ").strip()
        body = json.dumps({"clip": clip_hash(clip()), "verdict": "success"}).encode()
        sent = urllib.request.Request(f"{url}label", body, {"Content-Type": "application/json"})
        assert urllib.request.urlopen(sent).status == 200
        os.kill(process.pid, signal.SIGINT)
        assert "1 of 1 clips are judged, by anna" in process.stdout.read()
        timer.cancel()
    assert process.returncode == 0
