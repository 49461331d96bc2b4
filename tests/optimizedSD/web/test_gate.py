"""What a page's own window asks for passes the gate; answers say what browsers may do with them."""

from __future__ import annotations

import json

import pytest

for name in ("starlette.testclient", "python_multipart"):  # gradio's own, quicker to import
    pytest.importorskip(name, reason="needs gradio: pip install -e '.[web]'")

from gated_page import API, CHOOSE, DRAW, INPAINT, SELECT, STOP, gated, png  # noqa: E402 - starlette

from optimizedSD.web import bodies, gate  # noqa: E402
from optimizedSD.web.limits import TEXTS  # noqa: E402

GOOD = ["a cat", 64, False]


@pytest.fixture
def page(tmp_path):
    return gated(tmp_path)


READ = [
    "/",
    "/config",
    "/theme.css",
    "/assets/index-D.js",
    "/static/fonts/a/b.woff2",
    "/favicon.ico",
    f"{API}/info",
    f"{API}/app_id",
    f"{API}/heartbeat/zf677dmike",
    f"{API}/startup-events",
]


@pytest.mark.parametrize("path", READ)
def test_what_the_page_reads_is_passed_on(page, path):
    assert page.client.get(path).status_code == 200
    assert page.inner.seen == [("GET", path)]


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1:8080", "[::1]:7860", "LOCALHOST"])
def test_this_machines_own_names_are_answered(page, host):
    assert page.client.get("/", headers={"Host": host}).status_code == 200


def test_a_link_on_another_sites_page_may_lead_here(page):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert page.client.get("/", headers=headers).status_code == 200


def test_the_pages_own_origin_is_answered(page):
    assert page.client.get("/", headers={"Origin": "http://127.0.0.1:7860"}).status_code == 200


def test_no_other_origin_may_read_embed_or_guess_an_answer(page):
    passed, refused = page.client.get("/"), page.client.get("/nothing")
    for answer in (passed, refused):
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy


def test_gradio_is_not_told_which_stored_page_to_open(page):
    assert page.client.get("/?deep_link=abc").text == ""
    assert page.client.get("/theme.css?v=1").text == "v=1"


def test_a_call_is_passed_on_as_it_was_checked(page):
    assert page.call(DRAW, GOOD, trigger_id=7, extra="x", oauth_token="y").status_code == 200
    assert json.loads(page.inner.bodies[0]) == {
        "data": GOOD,
        "event_data": None,
        "fn_index": DRAW,
        "trigger_id": 7,
        "session_hash": "me",
    }


def test_a_trigger_that_is_no_button_is_left_out(page):
    page.call(DRAW, GOOD, trigger_id=8)
    assert json.loads(page.inner.bodies[0])["trigger_id"] is None


def test_buttons_are_called_without_the_queue(page):
    assert page.call(STOP, [], "run/predict").status_code == 200
    clicked = page.call(SELECT, [["x"]], "run/predict", event_data={"index": 3, "value": "x"})
    assert clicked.status_code == 200
    call = json.loads(page.inner.bodies[1])
    assert (call["data"], call["event_data"]) == ([None], {"index": 3, "value": None})


def test_lists_of_chosen_texts_pass_and_no_other_lists(page):
    for value, passed in (
        ([["a", "b"]], True),
        ([[]], True),
        ([None], True),
        ([[1]], False),
        ([["a"] * 101], False),
        ([[["a"]]], False),
        ([{"a": 1}], False),
    ):
        assert page.call(CHOOSE, value).is_success == passed, value


def test_a_picture_that_the_page_shows_may_be_given_back(page, tmp_path):
    editor = {"background": None, "layers": [], "composite": None}
    for path, passed in (
        (page.folder / "good.png", True),
        (page.folder / ".hidden.png", False),
        (page.folder / "script.png", False),
        (tmp_path / "outside.png", False),
    ):
        answer = page.call(INPAINT, [editor, {"path": str(path)}, "a cat"])
        assert answer.is_success == passed, path


def test_a_click_names_a_file_only_if_the_page_shows_it(page, tmp_path):
    good = str(page.folder / "good.png")
    for image, passed in (
        ({"path": good, "url": "http://evil.example"}, {"image": {"path": good}}),
        ({"path": str(tmp_path / "outside.png")}, None),
        ({"path": str(page.folder / "script.png")}, None),
        ({"path": str(page.folder / ".hidden.png")}, None),
        ({"path": "/etc/passwd"}, None),
        ({"path": 1}, None),
        ("x", None),
    ):
        page.call(
            SELECT, [["x"]], "run/predict", event_data={"index": 0, "value": {"image": image}}
        )
        assert json.loads(page.inner.bodies[-1])["event_data"] == {"index": 0, "value": passed}


def test_what_was_uploaded_may_be_named_in_a_call_and_shown(page):
    files = [("files", ("../../x.html", png(), "text/html"))] * 2
    (path, same) = page.client.post(f"{API}/upload", files=files).json()
    assert path == same
    assert path.endswith(".png")
    file = {"path": path, "url": "http://evil.example/", "orig_name": "../x"}
    editor = {"background": file, "layers": [file, None], "composite": None, "id": "blob"}
    assert page.call(INPAINT, [editor, file, "a cat"]).status_code == 200
    kept = {"path": path, "meta": {"_type": "gradio.FileData"}}
    edited, mask, _ = json.loads(page.inner.bodies[0])["data"]
    assert (mask, edited["background"], edited["layers"]) == (kept, kept, [kept, None])
    assert edited["id"] is None
    assert page.client.get(f"{API}/file={path}").content == png()


def test_an_upload_is_over_when_the_page_hears_of_it(page):
    answer = page.client.get(f"{API}/upload_progress?upload_id=1")
    assert answer.text == 'data: {"msg": "done"}\n\n'
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_a_picture_is_handed_out_as_a_picture_only(page):
    answer = page.client.get(f"{API}/file={page.folder}/good.png")
    assert answer.content == (page.folder / "good.png").read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert not page.inner.seen


def test_a_closed_window_ends_its_run_and_is_not_watched_again(page):
    page.call(DRAW, GOOD)
    assert page.client.get(f"{API}/queue/data?session_hash=me").status_code == 200
    assert page.left == ["me"]
    assert page.client.get(f"{API}/queue/data?session_hash=me").status_code == 404


def test_sessions_that_never_watch_their_run_are_forgotten(page, monkeypatch):
    monkeypatch.setattr(gate, "MOST_JOINED", 2)
    for session in "abc":
        page.call(DRAW, GOOD, session_hash=session)
    watched = [page.client.get(f"{API}/queue/data?session_hash={s}").status_code for s in "abc"]
    assert watched == [404, 200, 200]


def test_an_address_may_have_so_many_requests_open(page, monkeypatch):
    monkeypatch.setattr(gate, "OPEN_REQUESTS", 0)
    answer = page.client.get("/")
    assert answer.status_code == 429
    assert answer.headers["connection"] == "close"
    monkeypatch.setattr(gate, "OPEN_REQUESTS", 1)
    assert [page.client.get("/").status_code for _ in range(3)] == [200] * 3


def test_a_body_that_does_not_arrive_is_not_waited_for(page, monkeypatch):
    async def never(*_):
        import asyncio

        await asyncio.sleep(60)

    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)
    monkeypatch.setattr(gate.Request, "body", never)
    assert page.call(DRAW, GOOD).status_code == 408


def test_a_proxys_name_is_answered_when_it_is_allowed(tmp_path):
    page = gated(tmp_path, others=("draw.example",))
    headers = {"Host": "draw.example", "Origin": "https://draw.example"}
    assert page.client.get("/", headers=headers).status_code == 200
    behind = {"Host": "127.0.0.1:7860", "Origin": "https://draw.example:8443"}
    assert page.client.get("/", headers=behind).status_code == 200
    assert page.client.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_every_text_of_a_call_may_be_as_long_as_a_prompt(page, monkeypatch):
    monkeypatch.setattr(gate, "REQUEST", 500)  # bytes for the rest of a call
    letters = "\N{CAT FACE}" * 100 * len(TEXTS)  # the most that each may hold; 12 bytes in JSON
    assert page.call(DRAW, [letters, 64, False]).status_code == 200
    assert page.call(DRAW, [letters * 2, 64, False]).status_code == 413
