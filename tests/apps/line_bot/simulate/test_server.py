"""LINE's own SDK calls the stand-in: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest

pytest.importorskip("linebot", reason="needs the bot's packages: pip install -e '.[line]'")

import httpx
from linebot.v3.messaging import (
    ApiClient,
    ApiException,
    AsyncApiClient,
    AsyncMessagingApi,
    Configuration,
    ImageMessage,
    MarkMessagesAsReadByTokenRequest,
    MessageAction,
    MessagingApi,
    PushMessageRequest,
    QuickReply,
    QuickReplyItem,
    ReplyMessageRequest,
    ShowLoadingAnimationRequest,
    TextMessage,
    ValidateMessageRequest,
)

from apps.line_bot.simulate.people import new_id


def refusal(call):
    """Return what LINE's refusal of a call says: status, body and headers."""
    with pytest.raises(ApiException) as caught:
        call()
    return caught.value.status, json.loads(caught.value.body), caught.value.headers


def push(api, to, text="猫", key=None):
    request = PushMessageRequest(to=to, messages=[TextMessage(text=text)])
    return api.push_message(request, x_line_retry_key=key)


def reply(api, token, *texts):
    messages = [TextMessage(text=text) for text in texts or ["はい"]]
    return api.reply_message(ReplyMessageRequest(reply_token=token, messages=messages))


@pytest.fixture
def user(line):
    return line.users[0]


@pytest.fixture
def token(line, user):
    return line.text_event(user, "猫")["replyToken"]


def test_a_reply_arrives_in_the_chat_that_its_token_is_of(api, line, user, token):
    sent = reply(api, token, "一", "二")
    assert [each.content["text"] for each in line.messages_of(user)] == ["一", "二"]
    assert [each.id for each in sent.sent_messages] == [
        each.message_id for each in line.messages_of(user)
    ]
    assert {each.way for each in line.messages_of(user)} == {"reply"}
    assert not line.messages_of(line.users[1])


def test_a_reply_token_is_good_once(api, line, user, token):
    reply(api, token)
    status, said, _ = refusal(lambda: reply(api, token))
    assert (status, said) == (400, {"message": "Invalid reply token"})
    assert len(line.messages_of(user)) == 1


def test_a_reply_token_expires_when_the_switch_says(api, line, clock, token):
    line.switches.set(token_lifetime=30)
    clock.now += 30.5
    assert refusal(lambda: reply(api, token))[1] == {"message": "Invalid reply token"}


def test_a_reply_token_is_good_until_it_expires(api, line, user, clock, token):
    line.switches.set(token_lifetime=30)
    clock.now += 29.5
    reply(api, token)
    assert line.messages_of(user)


def test_a_reply_that_breaks_the_rules_does_not_use_up_its_token(api, token):
    status, said, _ = refusal(lambda: reply(api, token, ""))
    assert status == 400
    assert said["message"] == "The request body has 1 error(s)"
    assert said["details"] == [{"message": "May not be empty", "property": "messages[0].text"}]
    reply(api, token)


def test_a_push_arrives_and_counts_against_the_quota_while_a_reply_does_not(api, line, user, token):
    reply(api, token)
    assert api.get_message_quota_consumption().total_usage == 0
    push(api, user.user_id)
    assert api.get_message_quota_consumption().total_usage == 1
    assert [each.way for each in line.messages_of(user)] == ["reply", "push"]


def test_a_push_to_a_group_counts_once_for_each_member(api, line):
    group = line.add_group("部", *line.users[:2])
    push(api, group.chat_id)
    assert api.get_message_quota_consumption().total_usage == 2
    assert len(line.messages_of(group)) == 1


def test_a_repeated_retry_key_is_told_what_it_was_accepted_as(api, line, user):
    key = str(uuid.uuid4())
    first = api.push_message_with_http_info(
        PushMessageRequest(to=user.user_id, messages=[TextMessage(text="一")]), key
    )
    status, said, headers = refusal(lambda: push(api, user.user_id, key=key))
    assert status == 409
    assert said["message"] == "The retry key is already accepted"
    assert said["sentMessages"][0]["id"] == first.data.sent_messages[0].id
    assert headers["x-line-accepted-request-id"] == first.headers["x-line-request-id"]
    assert headers["x-line-request-id"] != first.headers["x-line-request-id"]
    assert len(line.messages_of(user)) == 1


def test_a_retry_key_of_a_push_that_failed_can_be_used_again(api, line, user):
    key = str(uuid.uuid4())
    line.switches.set(errors_left=1)
    assert refusal(lambda: push(api, user.user_id, key=key))[0] == 500
    push(api, user.user_id, key=key)
    assert len(line.messages_of(user)) == 1


def test_an_answer_that_is_lost_leaves_the_message_sent_and_the_key_accepted(api, line, user):
    key = str(uuid.uuid4())
    line.switches.set(lost_answers=1)
    assert refusal(lambda: push(api, user.user_id, key=key))[0] == 500
    assert refusal(lambda: push(api, user.user_id, key=key))[0] == 409
    assert len(line.messages_of(user)) == 1


def test_a_retry_key_is_forgotten_after_a_day(api, line, clock, user):
    key = str(uuid.uuid4())
    push(api, user.user_id, key=key)
    clock.now += 24 * 3600 + 1
    push(api, user.user_id, key=key)
    assert len(line.messages_of(user)) == 2


def test_a_retry_key_must_be_a_uuid_and_belong_to_a_push(api, line, user):
    assert refusal(lambda: push(api, user.user_id, key="once"))[0] == 400
    answer = httpx.post(
        f"{line.address}/v2/bot/message/reply",
        headers={
            "authorization": f"Bearer {line.access_token}",
            "x-line-retry-key": str(uuid.uuid4()),
        },
        json={},
    )
    assert answer.status_code == 400
    assert "X-Line-Retry-Key" in answer.json()["message"]


def test_when_the_quota_ends_pushes_are_refused_and_replies_are_not(api, line, user, token):
    line.switches.set(quota=1)
    push(api, user.user_id)
    status, said, _ = refusal(lambda: push(api, user.user_id))
    assert (status, said) == (429, {"message": "You have reached your monthly limit."})
    reply(api, token)
    assert api.get_message_quota().value == 1
    assert len(line.messages_of(user)) == 2


def test_a_quota_without_limit_says_so(api, line):
    line.switches.set(quota=None)
    assert (api.get_message_quota().type, api.get_message_quota().value) == ("none", None)


@pytest.mark.parametrize(
    "to, message",
    [
        ("somebody", "The property, 'to', in the request body is invalid (line: -, column: -)"),
        (new_id("U"), "Failed to send messages"),
    ],
    ids=["no id", "a stranger"],
)
def test_a_push_to_nobody_is_refused(api, to, message):
    assert refusal(lambda: push(api, to))[:2] == (400, {"message": message})


def test_a_push_to_a_user_who_blocked_the_bot_is_accepted_and_never_arrives(api, line, user):
    line.unfollow(user)
    push(api, user.user_id)
    assert not line.messages_of(user)
    assert api.get_message_quota_consumption().total_usage == 0
    assert refusal(lambda: api.get_profile(user.user_id))[0] == 404
    line.follow(user)
    push(api, user.user_id)
    assert len(line.messages_of(user)) == 1


def test_another_token_than_the_channels_is_refused(line, user):
    wrong = Configuration(host=line.address, access_token="guess")
    with ApiClient(wrong) as client:
        status, said, _ = refusal(lambda: push(MessagingApi(client), user.user_id))
    assert status == 401
    assert said["message"].startswith("Authentication failed.")


def test_a_token_that_expired_is_refused_until_the_switch_is_back(api, line, user):
    line.switches.set(access_token_valid=False)
    assert refusal(lambda: push(api, user.user_id))[0] == 401
    line.switches.set(access_token_valid=True)
    push(api, user.user_id)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_as_many_calls_fail_as_were_asked_for(api, line, user, status):
    line.switches.set(errors_left=2, error_status=status)
    assert [refusal(lambda: push(api, user.user_id))[0] for _ in range(2)] == [status, status]
    push(api, user.user_id)
    assert len(line.messages_of(user)) == 1


def test_an_hours_outage_is_over_after_an_hour_of_the_clock(api, line, clock, user):
    line.switches.set(down_until=clock.now + 3600)
    assert refusal(lambda: push(api, user.user_id))[0] == 503
    clock.now += 3599
    assert refusal(lambda: push(api, user.user_id))[0] == 503
    clock.now += 1
    push(api, user.user_id)


def test_the_profile_of_a_friend_tells_the_language_and_a_members_does_not(api, line, user):
    group = line.add_group("部", user)
    room = line.add_group("", user, kind="room")
    assert api.get_profile(user.user_id).language == "ja"
    assert api.get_profile(user.user_id).display_name == "あき"
    # The SDK's class for a member would drop a language that was given.
    raw = api.get_group_member_profile_with_http_info(group.chat_id, user.user_id).raw_data
    assert json.loads(raw) == {"userId": user.user_id, "displayName": "あき"}
    assert api.get_room_member_profile(room.chat_id, user.user_id).user_id == user.user_id
    assert api.get_group_summary(group.chat_id).group_name == "部"


def test_profiles_of_strangers_are_not_found(api, line, user):
    group = line.add_group("部", line.users[1])
    for call in (
        lambda: api.get_profile(new_id("U")),
        lambda: api.get_group_member_profile(group.chat_id, user.user_id),
        lambda: api.get_room_member_profile(group.chat_id, line.users[1].user_id),
        lambda: api.get_group_summary(new_id("C")),
    ):
        assert refusal(call)[:2] == (404, {"message": "Not found"})


def test_a_user_without_a_language_has_none_in_the_profile(api, line):
    assert api.get_profile(line.add_user("X", None).user_id).language is None


def test_the_bot_learns_who_it_is(api, line):
    info = api.get_bot_info()
    assert (info.user_id, info.display_name) == (line.bot_user_id, line.bot_name)


def test_the_loading_animation_ends_with_the_bots_message_or_with_its_time(api, line, clock, user):
    def start(seconds, chat_id=user.user_id):
        return api.show_loading_animation_with_http_info(
            ShowLoadingAnimationRequest(chat_id=chat_id, loading_seconds=seconds)
        )

    assert start(20).status_code == 202
    assert line.ledger.loading_left(user.user_id) == 20
    push(api, user.user_id)
    assert line.ledger.loading_left(user.user_id) == 0
    start(5)
    clock.now += 6
    assert line.ledger.loading_left(user.user_id) == 0
    assert refusal(lambda: start(7))[0] == 400
    assert refusal(lambda: start(5, line.add_group("部", user).chat_id))[0] == 400


def test_a_users_photo_is_fetched_by_its_messages_id_until_it_is_taken_back(blob, line, ear, user):
    line.send_photo(user, b"\x89PNG...", "image/png")
    event = json.loads(ear.bodies[0][0])["events"][0]
    number = event["message"]["id"]
    answer = blob.get_message_content_with_http_info(number)
    assert bytes(answer.data) == b"\x89PNG..."
    assert answer.headers["content-type"] == "image/png"
    line.unsend(user, number)
    assert refusal(lambda: blob.get_message_content(number))[0] == 404


def test_messages_are_validated_without_being_sent(api, line, user):
    good = ValidateMessageRequest(messages=[TextMessage(text="猫")])
    api.validate_reply(good)
    api.validate_push(good)
    bad = ValidateMessageRequest(messages=[TextMessage(text="猫" * 5001)])
    _, said, _ = refusal(lambda: api.validate_push(bad))
    assert said["details"][0]["property"] == "messages[0].text"
    assert not line.messages_of(user)


def test_a_picture_with_buttons_is_kept_as_it_was_sent(api, line, user):
    image = ImageMessage(
        original_content_url="https://bot.example/images/a.jpg",
        preview_image_url="https://bot.example/images/b.jpg",
        quick_reply=QuickReply(items=[QuickReplyItem(action=MessageAction(label="a", text="b"))]),
    )
    api.push_message(PushMessageRequest(to=user.user_id, messages=[image]))
    (message,) = line.messages_of(user)
    assert message.content["previewImageUrl"] == "https://bot.example/images/b.jpg"
    assert message.content["quickReply"]["items"][0]["action"]["text"] == "b"


def test_a_picture_under_http_is_refused_though_the_sdk_lets_it_pass(api, user):
    image = ImageMessage(
        original_content_url="http://bot.example/a.jpg",
        preview_image_url="https://bot.example/b.jpg",
    )
    request = PushMessageRequest(to=user.user_id, messages=[image])
    _, said, _ = refusal(lambda: api.push_message(request))
    assert [each["property"] for each in said["details"]] == ["messages[0].originalContentUrl"]


def test_a_message_is_marked_as_read_by_its_token(api, line, user):
    content = line.text_event(user, "猫")["message"]
    api.mark_messages_as_read_by_token(
        MarkMessagesAsReadByTokenRequest(mark_as_read_token=content["markAsReadToken"])
    )
    assert line.ledger.message(content["id"]).read
    wrong = MarkMessagesAsReadByTokenRequest(mark_as_read_token="x")
    assert refusal(lambda: api.mark_messages_as_read_by_token(wrong))[0] == 400


def test_the_asynchronous_sdk_is_answered_likewise(configuration, line, user, token):
    async def talk():
        async with AsyncApiClient(configuration) as client:
            api = AsyncMessagingApi(client)
            await reply(api, token, "はい")
            await push(api, user.user_id)
            with pytest.raises(ApiException) as caught:
                await reply(api, token)
            return (await api.get_profile(user.user_id)).language, caught.value.status

    assert asyncio.run(talk()) == ("ja", 400)
    assert [each.way for each in line.messages_of(user)] == ["reply", "push"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"a"'])
def test_a_body_that_is_no_json_object_is_a_400(line, body):
    answer = httpx.post(
        f"{line.address}/v2/bot/message/push",
        content=body,
        headers={"authorization": f"Bearer {line.access_token}"},
    )
    assert answer.status_code == 400
    assert "JSON" in answer.json()["message"]


def test_an_endpoint_that_is_not_there_is_a_404_in_lines_words(line):
    answer = httpx.get(
        f"{line.address}/v2/bot/nothing", headers={"authorization": f"Bearer {line.access_token}"}
    )
    assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


def test_every_call_is_kept_with_its_status(api, line, user):
    line.switches.set(errors_left=1, error_status=429)
    refusal(lambda: push(api, user.user_id))
    push(api, user.user_id)
    assert [(call.path, call.status) for call in line.calls] == [
        ("/v2/bot/message/push", 429),
        ("/v2/bot/message/push", 200),
    ]


def test_the_switch_for_delay_makes_calls_take_longer(api, line, user):
    import time

    line.switches.set(latency=0.3)
    began = time.monotonic()
    push(api, user.user_id)
    assert time.monotonic() - began >= 0.3
