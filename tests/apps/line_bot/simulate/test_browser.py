"""The chat page in a real browser, with the echo bot: type, see the answer, press its buttons.

Needs the package playwright and a Chromium on this machine (Debian: apt-get install chromium);
skipped, saying what is missing, where one is absent.
"""

from __future__ import annotations

import pytest
from browsing import NEEDS_CHROMIUM, driver

pytest.importorskip("linebot", reason="needs the bot's packages: pip install -e '.[line]'")
playwright = driver()

from apps.line_bot.simulate import simulation  # noqa: E402 - imports the bot's packages
from apps.line_bot.simulate.echo import make_echo_bot  # noqa: E402

pytestmark = NEEDS_CHROMIUM

PATIENCE = 30_000  # milliseconds: a busy machine
ANSWERS = "#messages .theirs .bubble:not(.dots)"


@pytest.fixture
def line():
    with simulation(make_echo_bot, patience=10.0) as line:
        yield line


@pytest.fixture
def page(browser, line):
    """The page, opened; nothing on it may come from other machines, or fail in a script."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    outside, errors = [], []
    page.on("request", lambda r: None if is_own(r.url, line) else outside.append(r.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(PATIENCE)
    page.goto(f"{line.address}/")
    page.wait_for_selector("#people .chosen")
    yield page
    page.close()
    assert not outside
    assert not errors


def is_own(url, line):
    return url.startswith((line.address, "blob:", "data:", "about:"))


def type_and_send(page, text):
    page.fill("#text", text)
    page.press("#text", "Enter")


def choose(page, name):
    page.click(f"#people button:has-text('{name}')")


def answers(page, count):
    """Wait for so many messages of the bot; return their texts."""
    page.locator(ANSWERS).nth(count - 1).wait_for()
    return page.locator(ANSWERS).all_inner_texts()


def test_a_text_is_typed_its_answer_arrives_and_a_quick_reply_is_pressed(page, line):
    type_and_send(page, "青い背景の猫")
    assert answers(page, 1) == ["青い背景の猫"]
    assert page.input_value("#text") == ""
    page.click("#quick button:has-text('もう一度')")
    assert answers(page, 2) == ["青い背景の猫"] * 2
    page.click("#quick button:has-text('ボタン')")
    assert answers(page, 3)[2] == "postback: pressed"
    mine = page.locator("#messages .mine .bubble").all_inner_texts()
    assert mine == ["青い背景の猫", "青い背景の猫", "ボタン"]
    assert [m.way for m in line.messages_of(line.users[0])] == ["reply"] * 3


def test_markup_and_scripts_are_shown_as_they_were_typed(page):
    text = "<img src=x onerror=\"document.title='broken into'\"><b>猫</b> &amp; \u202eabc"
    type_and_send(page, text)
    assert answers(page, 1) == [text]
    assert page.locator("#messages img, #messages b").count() == 0
    assert page.title() == "LINE stand-in"


def test_the_page_speaks_the_language_of_the_user_who_is_chosen(page):
    for name, send, language in [
        ("あき", "送信", "ja"),
        ("小美", "傳送", "zh-Hant"),
        ("Robin", "Send", "en"),
    ]:
        choose(page, name)
        assert page.inner_text("#send") == send
        assert page.get_attribute("html", "lang") == language


def test_chats_are_apart_and_one_with_news_is_marked(page, line):
    type_and_send(page, "猫")
    answers(page, 1)
    choose(page, "Robin")
    page.wait_for_selector("text=No messages yet.")
    line.say(line.users[1], "狗")
    page.wait_for_selector("#people button:has-text('小美') .unread")
    choose(page, "小美")
    assert answers(page, 1) == ["狗"]
    page.wait_for_selector("#people .unread", state="detached")


def test_in_a_group_one_speaks_as_a_member_and_mentions_the_bot(page, line):
    choose(page, "美術部")
    page.select_option("#speaker", label="Robin")
    assert page.inner_text("#send") == "Send"
    type_and_send(page, "a cat")
    assert answers(page, 1) == [f"@{line.bot_name} a cat"]
    page.uncheck("#mention")
    type_and_send(page, "a dog")
    assert answers(page, 2)[1] == "a dog"
    page.select_option("#speaker", label="あき")
    page.wait_for_selector("#messages .theirs .name:has-text('Robin')")


def test_a_photo_is_sent_and_shown_and_the_bots_pictures_arrive(page, line, pictures, tmp_path):
    kind, data = pictures["small.jpg"]
    (tmp_path / "photo.jpg").write_bytes(data)
    page.set_input_files("#photo", tmp_path / "photo.jpg")
    assert answers(page, 1) == ["[image]"]
    shown = playwright.expect(page.locator(".mine .picture img"))
    shown.to_have_js_property("naturalWidth", 64, timeout=PATIENCE)


def test_a_picture_that_line_would_not_show_says_why(page, line):
    url = "https://elsewhere.example/a.jpg"
    image = {"type": "image", "originalContentUrl": url, "previewImageUrl": url}
    line.ledger.add_message(line.users[0].user_id, None, image, "push")
    page.wait_for_selector(".bubble.broken:has-text('is not the bot')")


def test_the_loading_animation_is_there_until_the_message(page, line):
    line.ledger.start_loading(line.users[0].user_id, 60)
    page.wait_for_selector(".dots")
    line.ledger.add_message(line.users[0].user_id, None, {"type": "text", "text": "はい"}, "push")
    assert answers(page, 1) == ["はい"]
    page.wait_for_selector(".dots", state="detached")


def test_switches_of_the_panel_are_those_of_the_server(page, line):
    page.fill("[name=errors_left]", "2")
    page.select_option("[name=error_status]", "429")
    page.uncheck("[name=redelivery]")
    page.fill("[name=quota]", "")
    page.press("[name=quota]", "Tab")
    page.wait_for_selector("#used", state="hidden")
    assert (line.switches.errors_left, line.switches.error_status) == (2, 429)
    assert (line.switches.quota, line.switches.redelivery) == (None, False)
    type_and_send(page, "猫")
    page.wait_for_selector("#calls .bad:has-text('429')")


def test_a_bot_that_is_not_there_is_said_on_the_page(page, line):
    line.connect("http://127.0.0.1:9/callback")
    type_and_send(page, "猫")
    page.wait_for_selector("#notice:has-text('ボットに届きませんでした')")
    page.wait_for_selector("#undelivered")


def test_enter_that_ends_a_conversion_does_not_send(page, line):
    page.fill("#text", "ねこ")
    page.evaluate(
        """document.getElementById('text').dispatchEvent(new KeyboardEvent('keydown',
        {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"""
    )
    page.press("#text", "Shift+Enter")
    assert page.input_value("#text") == "ねこ\n"
    assert not line.ledger.messages


def test_a_phone_shows_the_chat_without_scrolling_sideways(page):
    page.set_viewport_size({"width": 390, "height": 844})
    type_and_send(page, "a" * 300)
    answers(page, 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#send").is_visible()
