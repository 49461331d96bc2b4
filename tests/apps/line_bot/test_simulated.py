"""`python -m apps.line_bot --simulate` as it is typed: from words in a chat to pictures in it.

The part in a browser needs playwright and a Chromium (Debian: apt-get install chromium).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest
from browsing import NEEDS_CHROMIUM, chromium, driver
from running import ROOT
from small_demo import write_small_demo

pytest.importorskip("linebot", reason="needs the bot's packages: pip install -e '.[line]'")

import httpx  # noqa: E402 - comes with the bot's packages

PATIENCE = 90.0  # seconds: a busy machine


@pytest.fixture(scope="module")
def bot(tmp_path_factory):
    """The program with a narrow model; yields what it said, by the names of the pages."""
    folder = tmp_path_factory.mktemp("simulated")
    config, checkpoint = write_small_demo(folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "apps.line_bot", "--simulate", "--port", "0", "--ddim_steps", "2",
         "--config", config, "--ckpt", checkpoint, "--trust_config"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said = ""
    while "Chat page: " not in said:
        said += process.stdout.readline()
        assert process.poll() is None, said
    yield dict(re.findall(r"^(Chat page|Operator's page): (.*)$", said, re.MULTILINE))
    process.terminate()
    rest = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0 and "Traceback" not in rest, rest
    assert (folder / "outputs/line_bot_simulated").is_dir()


@pytest.fixture(scope="module")
def page(bot):
    address = bot["Chat page"].split()[0]
    with httpx.Client(base_url=address, trust_env=False, timeout=PATIENCE) as client:
        yield client


class Chat:
    """One user's chat with the bot, by way of the page's own requests."""

    def __init__(self, page: httpx.Client, name: str) -> None:
        self.page = page
        chats = page.get("/page/people").json()["chats"]
        chat = next(each for each in chats if each["name"] == name)
        self.place = {"user": chat["members"][0]["id"], "chat": chat["id"]}

    def answers(self, count: int) -> list[dict]:
        """Wait for so many messages of the bot; return them."""
        late = time.monotonic() + PATIENCE
        while time.monotonic() < late:
            news = self.page.get("/page/news", params={"chat": self.place["chat"], "version": -1})
            found = [message for message in news.json()["messages"] if message["from"] is None]
            if len(found) >= count:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{len(found)} of {count} messages came")

    def say(self, text: str) -> None:
        self.page.post("/page/say", json={**self.place, "text": text, "mention": False})

    def press(self, message: dict, label: str) -> None:
        button = next(b for b in message["quickReply"] if b["action"]["label"] == label)
        pressed = {"data": button["action"]["data"], "shown": label}
        self.page.post("/page/press", json={**self.place, **pressed})


def test_words_become_pictures_and_buttons_more_of_them(page):
    chat = Chat(page, "あき")
    chat.say("赤い背景の猫を2枚描いてください")
    first = chat.answers(2)
    assert [message["type"] for message in first] == ["image", "image"]
    for size in ("original", "preview"):
        picture = page.get(f"/page/picture/{first[0]['id']}/{size}")
        assert picture.headers["content-type"] == "image/jpeg"
        assert picture.content[:2] == b"\xff\xd8"
    for count, label in [(3, "少し変える"), (4, "もう一度")]:
        chat.press(chat.answers(count - 1)[-1], label)
        assert chat.answers(count)[-1]["type"] == "image"
    chat.say("レシピ")
    assert chat.answers(5)[-1]["text"].startswith("赤い背景の猫\nSteps: 2,")


def test_the_operators_page_opens_with_the_password_that_was_said(bot, page):
    chat = Chat(page, "Robin")
    chat.say("a cat on a blue background")
    chat.answers(1)
    address, password = re.match(r"(\S+) \(the password is (\S+) ", bot["Operator's page"]).groups()
    assert httpx.get(address, trust_env=False).status_code == 401
    shown = httpx.get(address, auth=("", password), trust_env=False).text
    assert "delivered: " in shown and chat.place["user"] in shown


@NEEDS_CHROMIUM
def test_in_a_browser_japanese_is_typed_a_picture_arrives_and_variation_is_pressed(page):
    with chromium() as browser:
        view = browser.new_page()
        view.set_default_timeout(PATIENCE * 1000)
        view.goto(str(page.base_url))
        view.wait_for_selector("#people .chosen")
        view.click("#people button:has-text('あき')")
        images = view.locator("#messages .theirs .picture img")
        before = images.count()
        view.fill("#text", "青い背景の犬")
        view.press("#text", "Enter")
        images.nth(before).wait_for()
        view.click("#quick button:has-text('少し変える')")
        images.nth(before + 1).wait_for()
        loaded = driver().expect(images.nth(before + 1))
        loaded.not_to_have_js_property("naturalWidth", 0, timeout=PATIENCE * 1000)
