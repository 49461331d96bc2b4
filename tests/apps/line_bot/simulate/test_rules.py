"""What LINE demands of messages, at both sides of each limit."""

from __future__ import annotations

import pytest

pytest.importorskip("linebot", reason="needs the bot's packages: pip install -e '.[line]'")


from apps.line_bot.simulate.rules import faults_of


def text(words="猫", **more):
    return {"type": "text", "text": words, **more}


def image(original="https://bot.example/a.jpg", preview="https://bot.example/b.jpg"):
    return {"type": "image", "originalContentUrl": original, "previewImageUrl": preview}


def buttons(*actions):
    return text(quickReply={"items": [{"type": "action", "action": each} for each in actions]})


MESSAGE = {"type": "message", "label": "a", "text": "b"}


@pytest.mark.parametrize(
    "messages",
    [
        [text()],
        [text()] * 5,
        [text("猫" * 5000)],
        [text("🐱" * 2500)],
        [image()],
        [image(original="https://bot.example/" + "a" * 1980)],
        [buttons(*[MESSAGE] * 13)],
        [buttons({**MESSAGE, "label": "あ" * 20, "text": "い" * 300})],
        [buttons({"type": "postback", "label": "a", "data": "d" * 300})],
        [{"type": "sticker", "packageId": "446", "stickerId": "1988"}],
        [{"type": "flex", "altText": "a", "contents": {"type": "bubble"}}],
    ],
    ids=range(11),
)
def test_messages_within_the_limits_have_no_faults(messages):
    assert faults_of(messages) == []


@pytest.mark.parametrize(
    "messages, where",
    [
        (None, "messages"),
        ([], "messages"),
        ([text()] * 6, "messages"),
        (["猫"], "messages[0].type"),
        ([text(), {"type": "song"}], "messages[1].type"),
        ([text("")], "messages[0].text"),
        ([{"type": "text"}], "messages[0].text"),
        ([text(5)], "messages[0].text"),
        ([text("猫" * 5001)], "messages[0].text"),
        ([text("🐱" * 2501)], "messages[0].text"),
        ([image(original="http://bot.example/a.jpg")], "messages[0].originalContentUrl"),
        ([image(preview="http://bot.example/a.jpg")], "messages[0].previewImageUrl"),
        ([image(preview="")], "messages[0].previewImageUrl"),
        ([image(preview="https:///a.jpg")], "messages[0].previewImageUrl"),
        ([image("https://bot.example/" + "a" * 1981)], "messages[0].originalContentUrl"),
        ([buttons()], "messages[0].quickReply.items"),
        ([buttons(*[MESSAGE] * 14)], "messages[0].quickReply.items"),
        ([text(quickReply=[])], "messages[0].quickReply.items"),
        ([buttons({"type": "song"})], "messages[0].quickReply.items[0].action.type"),
        (
            [buttons(MESSAGE, {**MESSAGE, "label": "あ" * 21})],
            "messages[0].quickReply.items[1].action.label",
        ),
        (
            [buttons({"type": "postback", "label": "a", "data": "d" * 301})],
            "messages[0].quickReply.items[0].action.data",
        ),
        ([buttons({**MESSAGE, "text": ""})], "messages[0].quickReply.items[0].action.text"),
    ],
    ids=range(22),
)
def test_what_is_beyond_a_limit_is_named_by_its_place(messages, where):
    assert [fault["property"] for fault in faults_of(messages)] == [where]
    assert all(fault["message"] for fault in faults_of(messages))
