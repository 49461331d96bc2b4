"""What the bot is sent: parsed by LINE's own SDK, signed, and sent again when it is not taken."""

from __future__ import annotations

import json
import time

import pytest

pytest.importorskip("linebot", reason="needs the bot's packages: pip install -e '.[line]'")

from linebot.v3 import WebhookParser
from linebot.v3.exceptions import InvalidSignatureError
from linebot.v3.webhooks import (
    FollowEvent,
    ImageMessageContent,
    JoinEvent,
    MessageEvent,
    PostbackEvent,
    StickerMessageContent,
    TextMessageContent,
    UnfollowEvent,
    UnsendEvent,
)

from apps.line_bot.simulate import StandIn
from apps.line_bot.simulate.events import new_ulid, sign
from ldm.errors import UserError


@pytest.fixture
def user(line):
    return line.users[0]


def heard(line, ear):
    """Return the events that the bot has been sent, by the SDK's parser, which checks them."""
    parser = WebhookParser(line.secret)
    return [
        event for body, signature in ear.bodies for event in parser.parse(body.decode(), signature)
    ]


def wait_until(true, seconds=5.0):
    late = time.monotonic() + seconds
    while not true() and time.monotonic() < late:
        time.sleep(0.01)
    assert true()


def test_a_text_arrives_signed_with_its_user_and_a_reply_token(line, ear, user, clock):
    delivery = line.say(user, "青い背景の猫 🐱")
    assert delivery.arrived
    (event,) = heard(line, ear)
    assert isinstance(event, MessageEvent)
    assert isinstance(event.message, TextMessageContent)
    assert event.message.text == "青い背景の猫 🐱"
    assert (event.source.type, event.source.user_id) == ("user", user.user_id)
    assert event.timestamp == clock.now * 1000
    assert event.reply_token
    assert not event.delivery_context.is_redelivery
    assert json.loads(ear.bodies[0][0])["destination"] == line.bot_user_id


def test_every_kind_of_event_is_one_that_the_sdk_knows(line, ear, user):
    group = line.add_group("部", user)
    line.send_photo(user, b"\xff\xd8\xff")
    line.send_sticker(user)
    line.press(user, "again:7", shown="もう一度")
    line.follow(user)
    line.unfollow(user)
    line.join(group)
    number = line.text_event(user, "x")["message"]["id"]
    line.unsend(user, number)
    events = heard(line, ear)
    kinds = [
        MessageEvent, MessageEvent, PostbackEvent, FollowEvent, UnfollowEvent, JoinEvent,
        UnsendEvent,
    ]  # fmt: skip
    assert [type(event) for event in events] == kinds
    assert isinstance(events[0].message, ImageMessageContent)
    assert isinstance(events[1].message, StickerMessageContent)
    assert events[2].postback.data == "again:7"
    assert events[5].source.group_id == group.chat_id
    assert events[6].unsend.message_id == number
    answerable = [hasattr(event, "reply_token") for event in events]
    assert answerable == [True, True, True, True, False, True, False]


def test_only_the_end_of_a_block_is_followed_as_one(line, ear, user):
    line.follow(user)
    line.unfollow(user)
    line.follow(user)
    follows = [event for event in heard(line, ear) if isinstance(event, FollowEvent)]
    assert [event.follow.is_unblocked for event in follows] == [False, True]


@pytest.mark.parametrize("kind", ["group", "room"])
def test_a_mention_says_where_the_bots_name_stands(line, ear, user, kind):
    group = line.add_group("部", user, kind=kind)
    line.say(user, "猫", group, mention_bot=True)
    line.say(user, "猫", group)
    first, second = heard(line, ear)
    (mentionee,) = first.message.mention.mentionees
    text = first.message.text
    assert text[mentionee.index : mentionee.index + mentionee.length] == f"@{line.bot_name}"
    assert (mentionee.is_self, mentionee.user_id) == (True, line.bot_user_id)
    assert getattr(first.source, f"{kind}_id") == group.chat_id
    assert first.source.user_id == user.user_id
    assert second.message.mention is None


def test_a_signature_of_other_bytes_or_another_secret_is_forged(line, ear, user):
    line.say(user, "猫")
    body, signature = ear.bodies[0]
    parser = WebhookParser(line.secret)
    for forged, under in [(body + b" ", signature), (body, sign("another", body))]:
        with pytest.raises(InvalidSignatureError):
            parser.parse(forged.decode(), under)


def test_an_event_that_is_not_taken_is_sent_again_as_it_was(line, ear, user, clock):
    ear.statuses = [500, 500]
    delivery = line.say(user, "猫")
    assert (delivery.arrived, delivery.attempts[0].fault) == (False, "the bot answered 500")
    clock.now += 9
    time.sleep(0.2)
    assert len(ear.bodies) == 1
    clock.now += 1
    wait_until(lambda: len(delivery.attempts) == 2)
    clock.now += 60
    wait_until(lambda: delivery.arrived)
    events = heard(line, ear)
    assert [event.delivery_context.is_redelivery for event in events] == [False, True, True]
    assert len({event.webhook_event_id for event in events}) == 1
    assert len({event.reply_token for event in events}) == 1
    assert len({event.timestamp for event in events}) == 1


def test_an_event_is_given_up_after_the_last_redelivery(line, ear, user, clock):
    ear.statuses = [500] * 9
    delivery = line.say(user, "猫")
    for _ in range(4):
        clock.now += 1000
        time.sleep(0.15)
    assert len(delivery.attempts) == 3
    assert not delivery.arrived
    ear.statuses = [500]
    other = line.say(user, "犬")
    clock.now += 10
    wait_until(lambda: other.arrived)  # giving one up has not ended the others'


def test_nothing_is_sent_again_that_was_taken_or_while_the_switch_is_off(line, ear, user, clock):
    line.say(user, "猫")
    line.switches.set(redelivery=False)
    ear.statuses = [500]
    line.say(user, "犬")
    clock.now += 1000
    time.sleep(0.2)
    assert len(ear.bodies) == 2


def test_a_bot_that_takes_too_long_has_not_answered(user_of_silence):
    line, user = user_of_silence
    delivery = line.say(user, "猫")
    assert delivery.attempts[0].status is None
    assert delivery.attempts[0].fault == "no answer in time"
    assert 0.1 <= delivery.attempts[0].seconds < 2


@pytest.fixture
def user_of_silence():
    import socket

    # Connections are taken by the system, and nobody ever answers.
    with socket.create_server(("127.0.0.1", 0)) as silent, StandIn(patience=0.1) as line:
        line.connect(f"http://127.0.0.1:{silent.getsockname()[1]}/callback")
        yield line, line.users[0]


def test_a_bot_that_is_not_there_is_a_fault_in_words(line, user):
    assert line.say(user, "猫").attempts[0].fault == "no bot is connected"
    line.connect("http://127.0.0.1:9/callback")
    assert "cannot be reached" in line.say(user, "猫").attempts[0].fault
    line.connect("http://127.0.0.1:99999/callback")
    assert "cannot be reached" in line.say(user, "猫").attempts[0].fault


def test_events_can_be_sent_out_of_order_together_and_twice(line, ear, user):
    first, second = line.text_event(user, "一"), line.text_event(user, "二")
    delivery = line.deliver(second, first)
    line.webhooks.redeliver(delivery)
    assert [event.message.text for event in heard(line, ear)] == ["二", "一", "二", "一"]
    assert json.loads(ear.bodies[1][0])["events"][0]["deliveryContext"] == {"isRedelivery": True}


def test_any_bytes_can_be_posted_under_any_signature(line, ear):
    assert line.webhooks.post(b"\xff" * 1_000_000, None).status == 200
    assert line.webhooks.post(b"{}", "forged").status == 200
    assert [(len(body), signature) for body, signature in ear.bodies] == [
        (1_000_000, None),
        (2, "forged"),
    ]


def test_a_text_of_any_letters_goes_through(line, ear, user):
    for text in ("\x00", "\u202e反", "<b>&amp;", "🏳️‍🌈" * 800, "\n"):
        line.say(user, text)
        assert heard(line, ear)[-1].message.text == text


def test_ulids_sort_by_time_and_are_26_letters():
    early, late = new_ulid(1_790_000_000.0), new_ulid(1_790_000_000.001)
    assert early < late
    assert len(early) == 26
    # The specification's own example: 1469918176385 ms are 01ARYZ6S41.
    assert new_ulid(1469918176.385).startswith("01ARYZ6S41")
    assert len({new_ulid(0.0) for _ in range(100)}) == 100


def test_only_ones_own_message_can_be_taken_back(line, ear, user):
    number = line.text_event(line.users[1], "x")["message"]["id"]
    with pytest.raises(UserError, match="no message of あき"):
        line.unsend(user, number)


@pytest.mark.parametrize("data, kind", [(b"", "image/png"), (b"GIF8", "image/gif")])
def test_a_photo_must_be_one(line, user, data, kind):
    with pytest.raises(UserError, match="expected JPEG or PNG"):
        line.send_photo(user, data, kind)
    assert not line.ledger.messages


def test_waiting_for_messages_that_do_not_come_says_how_many_did(line, user):
    with pytest.raises(TimeoutError, match="0 messages of 1"):
        line.wait_for_messages(user, 1, timeout=0.05)
