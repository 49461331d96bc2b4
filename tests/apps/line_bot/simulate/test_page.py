"""The chat page's own addresses: what they show, what they do, and whom they turn away."""

from __future__ import annotations

import re
import threading
import time

import pytest

pytest.importorskip("linebot", reason="needs the bot's packages: pip install -e '.[line]'")

import httpx

from apps.line_bot.simulate.page import STATIC


@pytest.fixture
def page(line):
    with httpx.Client(base_url=line.address, trust_env=False) as client:
        yield client


@pytest.fixture
def user(line):
    return line.users[0]


@pytest.fixture
def here(user):
    return {"user": user.user_id, "chat": user.user_id}


def news(page, chat):
    return page.get("/page/news", params={"chat": chat}).json()


def image_message(name, base="https://bot.example/images/"):
    return {"type": "image", "originalContentUrl": base + name, "previewImageUrl": base + name}


def sent(line, user, name, **more):
    return line.ledger.add_message(user.user_id, None, image_message(name, **more), "push")


def test_a_text_that_is_typed_reaches_the_bot_and_stands_in_the_chat(line, ear, page, user, here):
    answer = page.post("/page/say", json={**here, "text": "<b>猫</b>"})
    assert answer.json() == {"arrived": True, "fault": ""}
    assert b"<b>" in ear.bodies[0][0]
    (message,) = news(page, user.user_id)["messages"]
    assert (message["text"], message["from"]) == ("<b>猫</b>", user.user_id)


def test_a_bot_that_refuses_is_told_on_the_page(ear, page, here):
    ear.statuses = [500]
    answer = page.post("/page/say", json={**here, "text": "猫"})
    assert answer.json() == {"arrived": False, "fault": "the bot answered 500"}


def test_a_button_posts_back_and_its_words_stand_in_the_chat(ear, page, user, here):
    page.post("/page/press", json={**here, "data": "again:7", "shown": "もう一度"})
    assert b'"data":"again:7"' in ear.bodies[0][0]
    (message,) = news(page, user.user_id)["messages"]
    assert (message["text"], message["way"]) == ("もう一度", "postback")


def test_a_photo_is_sent_and_shown(ear, page, user, here, pictures):
    kind, data = pictures["small.png"]
    page.post("/page/photo", params=here, content=data, headers={"content-type": kind})
    assert b'"type":"image"' in ear.bodies[0][0]
    (message,) = news(page, user.user_id)["messages"]
    answer = page.get(f"/page/picture/{message['id']}/preview")
    assert (answer.content, answer.headers["content-type"]) == (data, "image/png")


def test_a_photo_of_another_kind_or_too_large_is_refused_in_one_line(line, page, here):
    for kind, data in (("image/gif", b"GIF89a"), ("image/png", bytes(10 * 2**20 + 1))):
        answer = page.post("/page/photo", params=here, content=data, headers={"content-type": kind})
        assert answer.status_code == 400
        assert "expected JPEG or PNG" in answer.json()["message"]
    assert not line.ledger.messages


@pytest.mark.parametrize("act", ["sticker", "follow", "unfollow"])
def test_other_acts_reach_the_bot(ear, page, here, act):
    assert page.post("/page/act", json={**here, "act": act}).json()["arrived"]
    assert f'"type":"{act}"'.encode() in ear.bodies[0][0]


def test_a_message_is_taken_back_by_its_user_only(line, ear, page, user, here):
    page.post("/page/say", json={**here, "text": "猫"})
    number = line.ledger.messages[0].message_id
    other = line.users[1].user_id
    theirs = {"user": other, "chat": other, "act": "unsend", "message": number}
    assert page.post("/page/act", json=theirs).status_code == 400
    assert page.post("/page/act", json={**here, "act": "unsend", "message": number}).is_success
    assert news(page, user.user_id)["messages"][0]["unsent"]


@pytest.mark.parametrize("name", ["small.jpg", "small.png"])
def test_a_picture_of_the_bots_is_fetched_from_where_its_public_address_leads(
    line, ear, page, user, pictures, name
):
    number = sent(line, user, name).message_id
    answer = page.get(f"/page/picture/{number}/original")
    assert (answer.headers["content-type"], answer.content) == pictures[name]


@pytest.mark.parametrize(
    "name, size, reason",
    [
        ("liar.jpg", "preview", "is image/jpeg; LINE shows"),
        ("page.html", "preview", "is text/html; LINE shows"),
        ("2mb.jpg", "preview", "more than 1048576 bytes"),
        ("11mb.jpg", "original", "more than 10485760 bytes"),
        ("../callback", "preview", "was answered with"),
    ],
)
def test_a_picture_that_line_would_not_show_says_why(line, ear, page, user, name, size, reason):
    number = sent(line, user, name).message_id
    answer = page.get(f"/page/picture/{number}/{size}")
    assert answer.status_code == 502
    assert reason in answer.json()["message"]


def test_an_original_may_be_larger_than_a_preview(line, ear, page, user):
    number = sent(line, user, "2mb.jpg").message_id
    assert page.get(f"/page/picture/{number}/original").status_code == 200


@pytest.mark.parametrize("base", ["https://bot.example.org/images/", "https://elsewhere.example/"])
def test_nothing_but_the_bots_public_address_is_fetched(line, ear, page, user, base):
    number = sent(line, user, "small.jpg", base=base).message_id
    answer = page.get(f"/page/picture/{number}/preview")
    assert answer.status_code == 502
    assert "known are: https://bot.example" in answer.json()["message"]


def test_switches_are_shown_and_set(line, clock, page, user):
    page.post("/page/switches", json={"errors_left": 2, "down_for": 60, "quota": None})
    assert (line.switches.errors_left, line.switches.quota) == (2, None)
    assert line.switches.down_until == clock.now + 60
    clock.now += 20
    shown = news(page, user.user_id)["switches"]
    assert (shown["down_for"], shown["errors_left"], shown["quota"]) == (40, 2, None)


@pytest.mark.parametrize("change", [{"errors_left": -1}, {"down_for": "x"}, {"colour": 1}])
def test_a_switch_that_cannot_be_set_so_is_a_400_in_one_line(page, change):
    answer = page.post("/page/switches", json=change)
    assert answer.status_code == 400
    assert "expected" in answer.json()["message"]


def test_a_question_for_news_is_answered_when_there_are_some(line, page, user):
    version = news(page, user.user_id)["version"]
    began = time.monotonic()
    timer = threading.Timer(0.3, line.text_event, (user, "猫"))
    timer.start()
    known = page.get("/page/news", params={"chat": user.user_id, "version": version}, timeout=10)
    assert 0.2 < time.monotonic() - began < 5
    assert known.json()["messages"][0]["text"] == "猫"


def test_people_have_their_languages(page):
    chats = page.get("/page/people").json()["chats"]
    assert [chat["members"][0]["language"] for chat in chats] == ["ja", "zh-Hant", "en"]


def test_nobody_acts_where_they_are_not(line, page, user):
    elsewhere = {"user": user.user_id, "chat": line.users[1].user_id, "text": "猫"}
    assert page.post("/page/say", json=elsewhere).status_code == 404
    assert not line.ledger.messages


def test_an_empty_text_is_not_sent(line, page, here):
    assert page.post("/page/say", json={**here, "text": " \n"}).status_code == 400
    assert not line.ledger.messages


@pytest.mark.parametrize("path", ["/", "/page/people", "/static/page.js", "/v2/bot/info"])
def test_another_name_than_this_machines_is_turned_away(page, path):
    assert page.get(path, headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_what_a_strangers_page_can_send_without_asking_does_nothing(line, page, here, kind):
    import json

    headers = {"content-type": kind} if kind else {}
    body = json.dumps({**here, "text": "猫"}).encode()
    assert page.post("/page/say", content=body, headers=headers).status_code == 422
    assert page.post("/page/switches", content=b'{"quota": 0}', headers=headers).status_code == 422
    assert not line.ledger.messages
    assert line.switches.quota != 0


def test_the_page_loads_nothing_from_elsewhere_and_sets_no_markup(page):
    answer = page.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"""(src|href|url|import|fetch)\W{1,4}(https?:)?//""", text), file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text), file
        assert page.get(f"/static/{file.name}").status_code == 200


@pytest.mark.parametrize("path", ["/static/../page.py", "/static/%2e%2e/page.py", "/docs"])
def test_no_other_file_is_served(page, path):
    assert page.get(path).status_code == 404


def test_every_language_says_everything():
    text = (STATIC / "texts.js").read_text(encoding="utf-8")
    parts = re.split(r'^  (?:ja|"zh-Hant"|en): \{$', text, flags=re.MULTILINE)[1:]
    keys = [re.findall(r"(\w+): (?=[\"`(])", part.split("\n  },")[0]) for part in parts]
    assert len(keys) == 3
    assert keys[0] == keys[1] == keys[2]
    assert {"send", "pushed", "undelivered"} <= {*keys[0]}
