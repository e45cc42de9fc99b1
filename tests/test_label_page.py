"""The page that people judge on, in a real browser: keys, corrections, progress, a phone's width."""

from __future__ import annotations

import contextlib
import shutil

import numpy as np
import pytest
from browser import CHROMIUM

from v2w_gym.rewards.human_page import LabelServer
from v2w_gym.rewards.human_queue import ClipQueue
from v2w_gym.rewards.judge import Clip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on this machine; on Debian: apt-get install chromium"
    ),
]
READY = "document.readyState === 'complete' && typeof film === 'object' && film !== null && !busy"
PLACE = "document.querySelector('#progress').innerText.replace(/\\s+/g, ' ')"
HOSTILE = "<img src=x onerror=alert(1)> & close the drawer"


def clip(number):
    """Four frames, each of one grey level, so that the frame on the screen can be read back."""
    levels = np.array([10, 80, 150, 220]) + number
    return Clip(np.tile(levels[:, None, None, None], (1, 24, 32, 3)).astype(np.uint8), HOSTILE, fps=20.0)


@pytest.fixture
def queue(tmp_path):
    queue = ClipQueue(tmp_path)
    for number in range(3):
        queue.add(clip(number))
    return queue


@pytest.fixture(scope="module")
def tab():
    from chrome import tab

    with tab() as opened:
        yield opened
    assert opened.wrong == []


@contextlib.contextmanager
def served(queue, tab):
    """A server whose page is left before it stops: what is on its way then would be an error in the page."""
    with LabelServer(queue, "anna") as server:
        yield server
        tab.open("about:blank")


def verdicts(queue):
    return [queue.labels.read().get(name, {}).get("anna") for name in queue.names(seed=0)]


def test_keys_judge_go_back_and_correct(queue, tab):
    with served(queue, tab) as server:
        tab.open(server.url)
        tab.until(READY)
        assert tab.ask(PLACE) == "Clip 1 of 3 0 of 3 judged"
        assert tab.ask("document.querySelector('#instruction').textContent") == HOSTILE
        tab.press("y")
        tab.until(f"{READY} && place === 1")
        tab.press("n")
        tab.until(f"{READY} && place === 2")
        assert verdicts(queue) == ["success", "failure", None]
        tab.press("Backspace")
        tab.until(f"{READY} && place === 1")
        assert tab.ask("document.querySelector('.said').id") == "failure"
        tab.press("u")
        tab.until(f"{READY} && place === 2")
        tab.ask("document.querySelector('#success').click()")
        tab.until("!document.querySelector('#over').hidden")
        assert verdicts(queue) == ["success", "unscorable", "success"]
        assert tab.ask(PLACE) == "3 of 3 judged"
        name = queue.add(clip(9))
        tab.until(READY)
        assert tab.ask("clips[place].clip") == name, "new clips come by themselves"


def test_the_clip_plays_and_can_be_stepped_through(queue, tab):
    level = "document.querySelector('#screen').getContext('2d').getImageData(9, 9, 1, 1).data[0]"
    with served(queue, tab) as server:
        tab.open(server.url)
        tab.until(READY)
        first = tab.ask("shown")
        tab.until(f"shown !== {first}")
        tab.press(" ")
        tab.ask("seek(0)")
        tab.press("ArrowLeft")
        seen = [tab.ask(level)]
        for _ in range(4):
            tab.press("ArrowRight")
            seen.append(tab.ask(level))
        base = seen[0] - 10
        assert base in range(3)
        assert seen == [level + base for level in (10, 80, 150, 220, 220)]
        assert tab.ask("document.querySelector('#now').textContent") == "4 / 4"


def test_a_damaged_clip_is_told_and_passed_over(queue, tab):
    damaged = queue.names(seed=0)[1]
    (queue.folder / "clips" / f"{damaged}.npz").write_bytes(b"torn")
    with served(queue, tab) as server:
        tab.open(server.url)
        tab.until(f"{READY} && place === 0")
        tab.press("y")
        tab.until(f"{READY} && place === 2")
        assert tab.ask(PLACE) == "Clip 3 of 3 1 of 3 judged 1 unreadable"
        tab.press("n")
        tab.until("!document.querySelector('#over').hidden")
        assert verdicts(queue) == ["success", None, "failure"]
        assert tab.ask("document.querySelector('#over-title').textContent").startswith("All clips that can")
        assert f"{damaged}.npz is damaged" in tab.ask("document.querySelector('#over-text').textContent")


def test_a_verdict_that_is_not_saved_is_told_and_the_clip_stays(queue, tab):
    with served(queue, tab) as server:
        tab.open(server.url)
        tab.until(READY)
        shutil.rmtree(queue.folder / "clips")
        tab.press("y")
        tab.until("!document.querySelector('#trouble').hidden")
        assert "Not saved: no such clip" in tab.ask("document.querySelector('#trouble').textContent")
        assert tab.ask("place") == 0
    assert verdicts(queue) == []
    tab.wrong = [text for text in tab.wrong if "404" not in text]  # the browser notes the refusal itself


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 780), (320, 568), (900, 480)])
def test_the_page_fits_its_window(queue, tab, width, height):
    queue.add(Clip(np.zeros((2, 40, 200, 3), np.uint8), "w" * 90))
    queue.add(Clip(np.zeros((2, 200, 40, 3), np.uint8), "a tall one"))
    with served(queue, tab) as server:
        tab.open(server.url, width, height)
        for place in range(5):
            tab.until(f"{READY} && place === {place}")
            assert tab.ask("document.documentElement.scrollWidth") <= width
            bottom = "document.querySelector('#unscorable').getBoundingClientRect().bottom"
            assert tab.ask(bottom) <= height, "the verdicts are always in sight"
            tab.press("u")
