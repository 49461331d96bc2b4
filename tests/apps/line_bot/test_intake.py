"""What users do and what they get: words, photos, buttons, groups, limits, in their language."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from bot_parts import settings_for
from fake_line import button, event, message, photo
from odd_texts import PIECES
from PIL import Image

from apps.line_bot import photos
from apps.line_bot.jobs import Task
from apps.line_bot.photos import fetched
from apps.line_bot.texts import STYLES
from apps.line_bot.worker import BadPhoto
from ldm.errors import UserError
from ldm.pipelines.progress import Notice


def answers(stage, line, *events) -> list[dict]:
    """Return the messages that arrive after events, each of which gets a name of its own."""
    begun = len(line.arrived)
    for each in events:
        stage.number += 1
        stage.clock.now += 1
        fresh = {"webhookEventId": f"E{stage.number}", "timestamp": int(stage.clock.now * 1000)}
        stage.hear({**each, **fresh, "replyToken": f"r{stage.number}"})
    stage.work()
    return [each for _, found in line.arrived[begun:] for each in found]


def said(stage, line, *events) -> str:
    (found,) = answers(stage, line, *events)
    return found["text"]


def tasks(stage) -> list[Task]:
    return [Task.read(row["task"]) for row in stage.jobs()]


def pressed(found: dict, index: int, user: str = "Ualice") -> dict:
    data = found["quickReply"]["items"][index]["action"]["data"]
    return button("x", data, user)


def test_a_text_becomes_pictures_with_buttons_under_the_last(stage, line):
    found = answers(stage, line, message("1", "猫、3枚"))
    assert [each["type"] for each in found] == ["image"] * 3
    assert [("quickReply" in each) for each in found] == [False, False, True]
    labels = [item["action"]["label"] for item in found[-1]["quickReply"]["items"]]
    assert labels == ["もう一度", "少し変える", "大きく", "別の画風", "やめる"]


def test_the_loading_animation_is_asked_for_where_something_will_be_drawn(stage, line):
    shown = []
    stage.bot.intake.line = type("Line", (), {
        "language_of": lambda *_: "", "show_loading": lambda _, user: shown.append(user),
    })()  # fmt: skip
    group = {"type": "group", "groupId": "G1", "userId": "Ub"}
    answers(stage, line, message("1", "help"), message("2", "cat"))
    answers(stage, line, {**message("3", "@bot cat"), "source": group})
    assert shown == ["Ualice"]


def test_line_is_asked_once_for_a_users_language(stage, line):
    line.languages["Ualice"] = "zh-TW"
    assert "傳文字給我" in said(stage, line, message("1", "help"))
    assert "傳文字給我" in said(stage, line, message("1", "help"))
    assert len([path for path, _, _ in line.calls if "profile" in path]) == 1
    assert "ことばを送ると" in said(stage, line, message("1", "ヘルプ"))


def test_a_photo_is_asked_about_and_drawn_from(stage, line):
    assert "photo" in said(stage, line, photo("7"))
    answers(stage, line, message("8", "a watercolor"), message("9", "a dog"))
    assert tasks(stage) == [Task("a watercolor", kind="photo", photo="m7"), Task("a dog")]


def test_a_photo_waits_a_quarter_of_an_hour_and_can_be_cancelled(stage, line):
    answers(stage, line, photo("7"))
    assert "1" in said(stage, line, message("8", "cancel"))
    answers(stage, line, photo("9"))
    stage.clock.now += 1000
    answers(stage, line, message("10", "a dog"))
    assert tasks(stage) == [Task("a dog")]


def test_each_button_does_what_it_says(stage, line):
    (first,) = answers(stage, line, message("1", "a cat, seed 5"))
    name = stage.jobs()[0]["name"]
    for index in range(3):
        answers(stage, line, pressed(first, index))
    (asked,) = answers(stage, line, pressed(first, 3))
    assert len(asked["quickReply"]["items"]) == len(STYLES)
    (styled,) = answers(stage, line, pressed(asked, 0))
    (asked,) = answers(stage, line, pressed(styled, 3))
    answers(stage, line, pressed(asked, 1))
    assert tasks(stage)[1:] == [
        Task("a cat"),
        Task("a cat", kind="variation", source=name),
        Task("a cat", kind="larger", source=name),
        Task("a cat, watercolor painting", seed=5),
        Task("a cat, oil painting", seed=5),
    ]
    assert "nothing to cancel" in said(stage, line, pressed(first, 4))


def test_a_button_of_another_chat_or_of_a_picture_that_is_gone_is_refused(stage, line):
    (first,) = answers(stage, line, message("1", "a cat"))
    assert "button" in said(stage, line, pressed(first, 0, "Umallory"))
    stage.clock.now += stage.settings.keep_hours * 3600 + 100
    (drawn,) = stage.bot.queue.folder(stage.jobs()[0]["name"]).iterdir()
    drawn.unlink(), drawn.parent.rmdir()
    assert "not kept" in said(stage, line, pressed(first, 1))
    stage.bot.gallery.clean()
    assert "button" in said(stage, line, pressed(first, 0))
    assert "button" in said(stage, line, button("x", "do=again&job=../../etc"))


def test_a_recipe_is_told_on_request(stage, line):
    assert "no picture" in said(stage, line, message("1", "recipe"))
    answers(stage, line, message("2", "a cat, seed 5"))
    told = said(stage, line, message("3", "recipe"))
    assert told.startswith("a cat\n") and "Seed: 5" in told


def test_cancel_takes_back_what_waits_and_gives_back_its_pictures(stage, line):
    stage.hear(message("a", "cat, 2 pictures"), message("b", "dog"))
    assert stage.bot.people.had("Ualice") == 3
    stage.hear(message("c", "取消"))
    assert {job["state"] for job in stage.jobs()} == {"cancelled"}
    assert stage.bot.people.had("Ualice") == stage.bot.people.had("") == 0
    stage.work()
    assert [found[0]["text"] for _, found in line.arrived] == ["2 件を取り消しました。"] or [
        found[0]["text"] for _, found in line.arrived
    ] == ["Cancelled: 2."]


def test_a_message_that_comes_after_its_own_cancelling_is_not_drawn(stage, line):
    stage.hear(message("2", "cancel", sent=stage.clock.now))
    stage.hear(message("1", "cat", sent=stage.clock.now - 5))
    stage.work()
    assert [job["state"] for job in stage.jobs()] == ["cancelled"]


def test_a_message_that_is_taken_back_is_not_drawn_and_others_are(stage, line):
    stage.hear(message("1", "cat"), message("2", "dog"))
    stage.hear(event("3", "Ualice", stage.clock.now, type="unsend", unsend={"messageId": "m1"}))
    assert [job["state"] for job in stage.jobs()] == ["cancelled", "queued"]


GROUP = {"type": "group", "groupId": "G1", "userId": "Ubob"}


def mention(text: str, at: int, length: int, *, me: bool = True) -> dict:
    who = {"index": at, "length": length, "type": "user", "userId": "U0", "isSelf": me}
    return {"content": {"mention": {"mentionees": [who]}}} | {"text": text}


def in_group(text: str, at: int, length: int, *, me: bool = True) -> dict:
    made = mention(text, at, length, me=me)
    return {**message("1", text, content=made["content"]), "source": GROUP}


def test_in_a_group_only_what_mentions_the_bot_is_answered_there(stage, line):
    quiet = {**message("1", "cat"), "source": GROUP}, {**photo("2"), "source": GROUP}
    assert not answers(stage, line, *quiet, in_group("@you cat", 0, 4, me=False))
    # Places are counted in UTF-16, where an emoji takes two.
    answers(stage, line, in_group("🐈 @bot a cat", 3, 4))
    assert tasks(stage) == [Task("🐈 a cat")]
    assert stage.jobs()[0]["chat"] == "G1" and stage.jobs()[0]["user"] == "Ubob"
    answers(stage, line, in_group("@bot help", -5, 10**6))


def test_who_follows_or_invites_the_bot_is_told_how_to_use_it(stage, line):
    line.languages["Ualice"] = "ja"
    assert "ことばを送ると" in said(
        stage, line, event("1", "Ualice", 0, type="follow", follow={"isUnblocked": False})
    )
    joined = {**event("2", "U", 0, type="join"), "source": {"type": "group", "groupId": "G2"}}
    assert "Send me words" in said(stage, line, joined)


def test_who_blocks_the_bot_gets_nothing_any_more(stage, line):
    stage.hear(message("1", "cat"), message("2", "help"))
    stage.hear({**event("3", "Ualice", stage.clock.now, type="unfollow"), "replyToken": None})
    stage.work()
    assert not line.arrived and stage.jobs()[0]["state"] == "cancelled"


@pytest.mark.parametrize("kind", ["sticker", "audio", "video", "file", "location"])
def test_what_is_neither_words_nor_photo_gets_one_answer(stage, line, kind):
    contents = {
        "sticker": {"packageId": "1", "stickerId": "2", "stickerResourceType": "STATIC"},
        "audio": {"contentProvider": {"type": "line"}, "duration": 1},
        "video": {"contentProvider": {"type": "line"}, "duration": 1},
        "file": {"fileName": "a.exe", "fileSize": 3},
        "location": {"latitude": 1.0, "longitude": 2.0},
    }
    content = {"type": kind, "id": "5", "quoteToken": "q", **contents[kind]}
    made = event("1", "Ualice", 0, type="message", message=content)
    assert "words and photos" in said(stage, line, made)


def limit(stage, **changes) -> None:
    stage.bot.intake.settings = replace(stage.settings, **changes)


def test_a_user_has_so_many_pictures_a_day_and_all_users_so_many(stage, line):
    limit(stage, daily_pictures=3, daily_total=5)
    answers(stage, line, message("1", "a cat, 2 pictures"))
    assert "3 pictures, of which 1" in said(stage, line, message("2", "a dog, 2 pictures"))
    answers(stage, line, message("3", "a dog"), message("4", "a dog, 2 pictures", "Ubob"))
    assert "All of today" in said(stage, line, message("5", "a dog", "Ucarol"))
    stage.clock.now += 86_400
    assert answers(stage, line, message("6", "a dog", "Ucarol"))[0]["type"] == "image"


def test_a_user_has_so_many_jobs_that_wait(stage, line):
    limit(stage, waiting_jobs=2)
    stage.hear(*(message(str(n), "cat") for n in range(3)), message("x", "cat", "Ubob"))
    assert [job["user"] for job in stage.jobs()] == ["Ualice", "Ualice", "Ubob"]


def test_on_a_list_only_listed_users_and_chats_draw(stage, line):
    limit(stage, open_to="listed", allow=("Ualice", "G1"))
    assert "id: Umallory" in said(stage, line, message("1", "cat", "Umallory"))
    assert answers(stage, line, message("2", "cat"))[0]["type"] == "image"
    assert answers(stage, line, in_group("@bot cat", 0, 4))[0]["type"] == "image"


def test_a_blocked_user_is_not_answered_at_all(stage, line):
    stage.bot.people.block("Ualice")
    assert not answers(stage, line, message("1", "cat"), photo("2"), button("3", "do=stop"))
    stage.bot.people.block("Ualice", blocked=False)
    assert answers(stage, line, message("1", "cat"))


def test_who_has_to_wait_long_is_told_the_place_by_the_token_that_would_grow_old(stage, line):
    stage.bot.queue.seconds_each = lambda: 20.0
    stage.hear(message("1", "cat"), message("2", "dog"), message("3", "fox", "Ubob"))
    stage.work()
    first = {to: found[0].get("text", "image") for to, found in line.arrived}
    assert first["r1"] == "image" and first["r2"].startswith("Accepted; 1 ")
    assert first["r3"].startswith("Accepted; 2 ") and len(line.arrived) == 5


def test_a_fault_of_ours_costs_one_event_and_no_more(stage, line, monkeypatch):
    act = stage.bot.intake._act

    def faulty(incoming, language):
        if incoming.text == "dog":
            raise ZeroDivisionError
        return act(incoming, language)

    monkeypatch.setattr(stage.bot.intake, "_act", faulty)
    found = answers(stage, line, message("1", "dog"), message("2", "cat"))
    assert sorted(each["type"] for each in found) == ["image", "text"]
    (row,) = stage.bot.base.rows("SELECT * FROM warnings")
    assert "ZeroDivisionError" in row["text"]


def test_any_message_gets_one_answer_and_touches_no_other_folder(stage, line, tmp_path):
    limit(stage, daily_pictures=10**6, daily_total=10**6)
    draw, before = random.Random(2), {each.name for each in tmp_path.iterdir()}
    for _ in range(60):
        text = " ".join(draw.choice(PIECES) for _ in range(draw.randrange(12)))
        assert len(answers(stage, line, message("1", text))) in range(1, 5)
    states = {row["state"] for row in stage.bot.base.rows("SELECT state FROM events")}
    assert states == {"read"}
    assert {each.name for each in tmp_path.iterdir()} - before <= {"drawn", "pictures"}


def test_a_users_photo_is_fetched_once_and_only_if_it_is_there_and_small(stage, line, monkeypatch):
    folder, api = stage.bot.base.folder, stage.bot.line
    line.photos |= {"m7": b"7" * 500, "m8": b"8" * 501}
    monkeypatch.setattr(photos, "LARGEST_PHOTO", 500)
    for _ in range(2):
        assert fetched(folder, api, "m7").read_bytes() == b"7" * 500
    assert len([path for path, _, _ in line.calls if "m7/content" in path]) == 1
    for wrong in ("m8", "m9"):
        with pytest.raises(BadPhoto):
            fetched(folder, api, wrong)
    assert [each.name for each in (folder / "photos").iterdir()] == ["m7.bin"]


def test_a_photo_is_opened_safely_and_fitted_to_the_model(stage, tmp_path):
    pytest.importorskip("torch")
    from apps.line_bot.drawing import Drawer

    choice = type("Choice", (), {"size": 64, "multiple": 16})
    drawer = Drawer(type("Pipeline", (), {"choice": choice}), stage.settings)
    good, bad = tmp_path / "good.bin", tmp_path / "bad.bin"
    Image.new("RGB", (300, 200), "red").save(good, "PNG")
    bad.write_bytes(b"GIF89a" + b"\0" * 50)
    assert drawer._start(Task("x", kind="photo"), good).size == (96, 64)
    with pytest.raises(BadPhoto):
        drawer._start(Task("x", kind="photo"), bad)


def test_pictures_are_drawn_with_the_operators_settings_and_flagged_ones_are_marked(tmp_path):
    pytest.importorskip("torch")
    from apps.line_bot.drawing import Drawer
    from apps.line_bot.model import model_for

    glossary = tmp_path / "words.tsv"
    glossary.write_text("ぬこ\tcat\n", encoding="utf-8")
    settings, _ = settings_for(
        tmp_path, "http://127.0.0.1:9", prompt_lang="ja", glossary=str(glossary), ddim_steps=7
    )
    asked = []

    class Pipeline:
        choice = model_for(settings)

        def generate(self, settings, *, observer, **_):
            asked.append(settings)
            observer(Notice("the model does not know: x", unknown=tuple("abcdefghijkl")))
            for index in range(settings.n_iter):
                pixels = np.zeros((64, 64, 3), np.uint8)
                yield SimpleNamespace(pixels=pixels, parameters="x", flagged=index == 1)

    out = tmp_path / "out"
    out.mkdir()
    Drawer(Pipeline(), settings)(Task("ぬこ: 2", count=3, seed=9), out, lambda: None)
    (made,) = asked
    assert (made.prompt, made.seed, made.ddim_steps, made.n_iter) == ("ぬこ: 2", 9, 7, 3)
    assert (made.prompt_lang, made.glossary, made.plain_prompt) == ("ja", str(glossary), True)
    files = sorted(p.name for p in out.iterdir())
    assert files == ["0.png", "1.flagged", "1.png", "2.png", "unknown_words.txt"]
    assert (out / files[-1]).read_text(encoding="utf-8").splitlines() == list("abcdefghij")
    glossary.unlink()
    with pytest.raises(UserError, match=r"words\.tsv"):
        model_for(settings)


@pytest.mark.parametrize(
    ("operators", "task", "drawn"),
    [
        ({}, {}, (3.0, "dpmpp_2m", "karras", 20)),
        ({"ddim_steps": 7}, {}, (3.0, "dpmpp_2m", "karras", 7)),
        ({"sampler": "plms"}, {"scale": 7.5}, (7.5, "plms", "uniform", 50)),
        ({"scale": 5.0}, {"steps": 9}, (5.0, "dpmpp_2m", "karras", 9)),
    ],
)
def test_users_are_heard_before_the_operator_and_the_model_fills_in_the_rest(
    tmp_path, operators, task, drawn
):
    pytest.importorskip("torch")
    from apps.line_bot.drawing import Drawer
    from apps.line_bot.model import model_for

    settings, _ = settings_for(tmp_path, "http://127.0.0.1:9", **operators)
    own = {"scale": 3.0, "sampler": "dpmpp_2m", "spacing": "karras", "ddim_steps": 20}
    choice = replace(model_for(settings), sampling=own)
    drawer = Drawer(SimpleNamespace(choice=choice), settings)
    photo = Image.new("RGB", (64, 64))
    made = drawer._settings(Task("a cat", **task), None)
    assert (made.scale, made.sampler, made.spacing, made.ddim_steps) == drawn
    again = drawer._settings(Task("a cat", kind="photo", **task), photo)
    sampler = "ddim" if drawn[1] == "plms" else drawn[1]
    assert (again.scale, again.sampler, again.ddim_steps) == (drawn[0], sampler, drawn[3])
    again.validate()


def test_put_out_of_a_group_the_bot_cancels_what_its_members_asked_for_there(stage, line):
    group = {"type": "group", "groupId": "G2", "userId": "Ualice"}
    mention = {"mentionees": [{"index": 0, "length": 4, "type": "user", "isSelf": True}]}
    asked = message("1", "@bot a cat", content={"mention": mention})
    stage.hear({**asked, "source": group}, message("2", "a dog"))
    left = event("3", "U", stage.clock.now, type="leave")
    stage.hear({**left, "source": {"type": "group", "groupId": "G2"}, "replyToken": None})
    assert {job["chat"]: job["state"] for job in stage.jobs()} == {
        "G2": "cancelled", "Ualice": "queued",
    }  # fmt: skip
    assert stage.bot.people.had("Ualice") == 1


def test_a_button_leaves_a_photo_alone_that_waits_for_its_words(stage):
    people = stage.bot.people
    people.keep_photo("Ualice", "m9", 5.0)
    people.drop_photo("Ualice", "m1")
    assert people.photo("Ualice", 6.0) == "m9"
    people.drop_photo("Ualice", "m9")
    assert people.photo("Ualice", 6.0) == ""


def test_the_operator_loads_adapters_and_a_tag_in_a_message_is_text(tmp_path):
    pytest.importorskip("torch")
    from apps.line_bot.drawing import Drawer
    from apps.line_bot.model import model_for

    address = "http://127.0.0.1:9"
    settings, _ = settings_for(tmp_path, address, lora=("ink:0.5",), embedding=("sunny",))
    drawer = Drawer(SimpleNamespace(choice=model_for(settings)), settings)
    photo = Image.new("RGB", (64, 64))
    for start, kind in ((None, "text"), (photo, "photo")):
        made = drawer._settings(Task("a cat <lora:other:1>", kind=kind), start)
        assert (made.lora, made.embedding) == (("ink:0.5",), ("sunny",))
        assert made.mixture(made.prompt) == [("a cat <lora:other:1>", 1.0)]
        assert not replace(made, lora=(), embedding=()).may_adapt([made.prompt])
