"""The real bot beside the stand-in: threads, the process that draws, the bundled model, HTTP."""

from __future__ import annotations

import base64
import io
import logging
import re
import socket
import sqlite3
import time

import httpx
import pytest
from bot_parts import ADMIN, settings_for
from PIL import Image

from apps.line_bot.__main__ import make_application
from apps.line_bot.secret import Secret
from apps.line_bot.settings import Secrets
from apps.line_bot.simulate import simulation
from apps.line_bot.simulate.events import payload, sign
from apps.line_bot.texts import say
from ldm.images.embed import parameters_in

PATIENCE = 90.0  # seconds for a picture, on a machine with other work


class Whole:
    """A stand-in, the bot beside it, and what both have said."""

    def __init__(self, line, data, log: io.StringIO) -> None:
        self.line, self.data, self.log = line, data, log
        self.base = line.webhooks.bot_url.rpartition("/")[0]
        self.read = dict.fromkeys(line.ledger.chats, 0)

    def texts(self, place, count: int = 1) -> list[dict]:
        """Wait for so many messages that are new in a chat, and return them."""
        key = getattr(place, "user_id", None) or place.chat_id
        self.read[key] += count
        found = self.line.wait_for_messages(place, self.read[key], PATIENCE)
        return [each.content for each in found[self.read[key] - count :]]

    def ask(self, text: str, who: int = 2) -> dict:
        user = self.line.users[who]
        self.line.say(user, text)
        (found,) = self.texts(user)
        return found

    def opened(self, content: dict) -> tuple[Image.Image, str]:
        data, kind = self.line.pictures.fetch(content["originalContentUrl"])
        assert kind == "image/jpeg"
        image = Image.open(io.BytesIO(data))
        return image, parameters_in(image) or ""

    def press(self, content: dict, index: int, who: int = 2) -> dict:
        action = content["quickReply"]["items"][index]["action"]
        self.line.press(self.line.users[who], action["data"], shown=action["displayText"])
        (found,) = self.texts(self.line.users[who])
        return found

    def admin(self) -> str:
        password = base64.b64encode(f"x:{ADMIN}".encode()).decode()
        headers = {"Authorization": f"Basic {password}"}
        return httpx.get(f"{self.base}/admin", headers=headers, trust_env=False).text


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    pytest.importorskip("torch")
    data = tmp_path_factory.mktemp("bot")

    def make(place):
        settings, _ = settings_for(
            data, place.line_url, ddim_steps=2, port=place.port, daily_pictures=40,
            public_base_url=place.public_url, precision="full",
        )  # fmt: skip
        secrets = Secrets(
            line_channel_secret=Secret(place.channel_secret),
            line_channel_access_token=Secret(place.access_token),
            admin_token=Secret(ADMIN),
        )
        return make_application(settings, secrets, lambda _: None)

    log, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(log), root.level
    root.addHandler(handler), root.setLevel(logging.DEBUG)
    try:
        with simulation(make) as line:
            line.switches.set(token_lifetime=3600.0, quota=None)
            yield Whole(line, data, log)
    finally:
        root.removeHandler(handler), root.setLevel(level)


def test_japanese_words_become_a_picture_with_a_recipe_and_variations(whole):
    picture = whole.ask("赤いりんご、seed 7", 0)
    image, recipe = whole.opened(picture)
    assert image.size == (64, 64) and "Seed: 7" in recipe and recipe.startswith("赤いりんご")
    assert whole.ask("レシピ", 0)["text"].startswith("赤いりんご\n")
    varied, recipe = whole.opened(whole.press(picture, 1, 0))
    assert varied.size == (64, 64) and "Denoising strength: 0.55" in recipe
    larger, _ = whole.opened(whole.press(picture, 2, 0))
    assert larger.size == (128, 128)


def test_a_photo_becomes_a_picture_of_its_shape_and_colours(whole):
    user, buffer = whole.line.users[1], io.BytesIO()
    Image.new("RGB", (300, 200), (230, 20, 20)).save(buffer, "JPEG")
    whole.line.send_photo(user, buffer.getvalue())
    assert "收到照片了" in whole.texts(user)[0]["text"]
    image, recipe = whole.opened(whole.ask("a red apple, seed 3", 1))
    assert image.size[0] > image.size[1] and "Denoising strength: 0.65" in recipe
    red, green, _ = image.convert("RGB").resize((1, 1)).getpixel((0, 0))
    assert red > green + 40


def test_what_is_no_photo_is_told_in_one_sentence(whole):
    user = whole.line.users[1]
    whole.line.send_photo(user, b"\xff\xd8\xff" + b"no picture" * 20)
    whole.texts(user)
    assert whole.ask("變成水彩畫", 1) == {"type": "text", "text": say("bad_photo", "zh")}


def test_cancelling_while_a_picture_is_drawn_ends_it(whole):
    user = whole.line.users[2]
    whole.line.say(user, "a cat, 4 pictures, --steps 100")
    late = time.monotonic() + PATIENCE
    while not re.search("drawing: 1", whole.admin()) and time.monotonic() < late:
        time.sleep(0.02)
    begun = time.monotonic()
    assert whole.ask("取消")["text"].startswith(("1 件", "Cancelled: 1"))
    assert whole.ask("a dog, seed 5")["type"] == "image"  # and none of the cat
    assert time.monotonic() - begun < PATIENCE / 2
    assert "cancelled: 1" in whole.admin()


def test_groups_and_rooms_are_answered_by_mention_alone_and_there(whole):
    users = whole.line.users
    for kind in ("group", "room"):
        chat = whole.line.add_group("club", *users, kind=kind)
        whole.read[chat.chat_id] = 0
        whole.line.say(users[2], "a quiet word", chat)
        whole.line.say(users[2], "a red apple", chat, mention_bot=True)
        (found,) = whole.texts(chat)
        assert found["type"] == "image" and "quiet" not in whole.opened(found)[1]


def test_a_users_day_ends_after_so_many_pictures(whole):
    user = whole.line.add_user("Dana", "en")
    whole.read[user.user_id] = 0
    with_limit = "SELECT pictures FROM quotas WHERE user=?"
    whole.line.say(user, "a cat, 4 pictures")
    assert len(whole.texts(user, 4)) == 4
    base = sqlite3.connect(whole.data / "bot.db")
    assert base.execute(with_limit, (user.user_id,)).fetchone() == (4,)
    base.execute("UPDATE quotas SET pictures=38 WHERE user=?", (user.user_id,))
    base.commit(), base.close()
    whole.line.say(user, "a cat, 3 pictures")
    assert "40 pictures, of which 2 are left" in whole.texts(user)[0]["text"]


def test_forged_replayed_late_and_malformed_webhooks_change_nothing(whole):
    line, user = whole.line, whole.line.users[2]
    early = line.text_event(user, "seed 1, a house")
    late = line.text_event(user, "seed 2, a house")
    body = payload(line.bot_user_id, [late])
    assert line.webhooks.post(body, sign("another secret", body)).status == 400
    assert line.webhooks.post(body, None).status == 400
    for malformed in (b"", b"[]", b"{}", b'{"events":[7]}', b"\xff", b"[" * 10**5):
        assert line.webhooks.post(malformed, sign(line.secret, malformed)).status == 400
    huge = body + b" " * 2**20
    assert line.webhooks.post(huge, sign(line.secret, huge)).status == 413
    full = body + b" " * (2**20 - len(body))
    for each in (full, body, full):  # replayed: whoever heard it may send it again
        assert line.webhooks.post(each, sign(line.secret, each)).status == 200
    line.webhooks.redeliver(line.deliver(early))  # sent before, and comes after
    found = whole.texts(user, 2)
    assert [whole.opened(each)[1].count("Seed: ") for each in found] == [1, 1]
    seeds = {re.search(r"Seed: (\d)", whole.opened(each)[1])[1] for each in found}
    assert seeds == {"1", "2"}


def raw(whole, target: bytes) -> bytes:
    """Send a request line as it stands: clients tidy paths before they send them."""
    host, port = whole.base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        wire.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        parts = []
        while part := wire.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    "name",
    [b"../bot.db", b"%2e%2e/bot.db", b"%2e%2e%2fbot.db", b"..%5cbot.db", b"..\\bot.db", b"..;/x"]
    + [b"/etc/passwd", b"%2fetc%2fpasswd", b"file:///etc/passwd", b"%00", b"%252e%252e%252fbot.db"]
    + [
        b"....//bot.db",
        b"%c0%ae%c0%ae/bot.db",
        b"C:%5cx",
        b"con",
        b"%E2%80%AE.jpg",
        b"*",
        b"~root",
    ],
)
def test_paths_of_pictures_cannot_be_walked_even_unescaped(whole, name):
    answer = raw(whole, b"/pictures/" + name)
    assert answer.split()[1] in (b"404", b"400") and b"SQLite" not in answer
    assert b"root:" not in answer


def test_a_link_is_not_followed_and_a_jobs_own_name_leads_nowhere(whole):
    picture = whole.ask("a car, seed 4")
    path = picture["originalContentUrl"].removeprefix("https://bot.example")
    assert raw(whole, path.encode()).split()[1] == b"200"
    job = re.search("job=([0-9a-f]{32})", picture["quickReply"]["items"][0]["action"]["data"])[1]
    assert raw(whole, f"/pictures/{job}.jpg".encode()).split()[1] == b"404"
    file = whole.data / path.lstrip("/")
    file.unlink()
    file.symlink_to(whole.data / "bot.db")
    assert raw(whole, path.encode()).split()[1] == b"404"
    file.unlink()


def test_no_secret_is_in_anything_that_was_written_said_or_sent(whole, capfd):
    secrets = [whole.line.secret, whole.line.access_token, ADMIN]
    page = whole.admin()
    health = httpx.get(f"{whole.base}/healthz", trust_env=False)
    assert health.json()["ready"] and "LINE bot" in page
    refused = [httpx.get(f"{whole.base}/{p}", trust_env=False) for p in ("admin", "x", "callback")]
    said = "".join(str(each.content) for each in whole.line.ledger.messages)
    answers = "".join(each.text + str(each.headers) for each in (health, *refused))
    out, log = capfd.readouterr(), whole.log.getvalue()
    assert "/callback" in log or "connect_tcp" in log  # debugging lines were heard too
    files = [each for each in whole.data.rglob("*") if each.is_file()]
    assert {each.suffix for each in files} >= {".db", ".jpg", ".png", ".bin"}
    for secret in secrets:
        assert secret not in page + said + answers + log + out.out + out.err
        assert not [each for each in files if secret.encode() in each.read_bytes()]
