"""The operator's page is for who knows the token, shows no secret, and quotes users safely."""

from __future__ import annotations

import re

import pytest
from bot_parts import ADMIN
from fake_line import SECRET, TOKEN, message
from fastapi import FastAPI
from fastapi.testclient import TestClient

from apps.line_bot.admin import add_admin
from apps.line_bot.secret import Secret

AUTH = ("operator", ADMIN)


@pytest.fixture
def client(stage):
    app = FastAPI()
    add_admin(app, stage.bot, stage.secrets.admin_token)
    with TestClient(app, follow_redirects=False) as client:
        yield client


def forms(page: str) -> list[dict[str, str]]:
    found = re.findall(r"<form.*?</form>", page)
    return [dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)) for form in found]


def test_without_the_token_nothing_is_shown_or_done(stage, client):
    stage.hear(message("1", "cat"))
    for auth in (None, ("operator", ""), ("operator", ADMIN[:-1]), (ADMIN, "x")):
        assert client.get("/admin", auth=auth).status_code == 401
        answer = client.post("/admin", auth=auth, data={"do": "block", "name": "Ualice"})
        assert answer.status_code == 401
    for header in ("Basic", "Basic !", "Bearer x", "Basic /w==", f"Basic {ADMIN}"):
        assert client.get("/admin", headers={"Authorization": header}).status_code == 401
    assert not stage.bot.people.blocked("Ualice")


def test_without_a_token_of_its_own_there_is_no_page(stage):
    app = FastAPI()
    add_admin(app, stage.bot, Secret(""))
    assert TestClient(app).get("/admin", auth=("x", "")).status_code == 404


def test_the_page_shows_queue_users_and_failures_and_no_secret(stage, client):
    stage.hear(message("1", "<script>alert(1)</script> cat"), message("2", "dog", "Ubob"))
    stage.line.faults.extend([403])
    stage.work()
    stage.hear(message("3", "a fox & a hen"))
    page = client.get("/admin", auth=AUTH).text
    assert "<script>" not in page and "&lt;script&gt;alert(1)" in page
    assert all(text in page for text in ("Ualice", "Ubob", "a fox &amp; a hen", "403"))
    assert not any(secret in page for secret in (SECRET, TOKEN, ADMIN))
    keys = stage.bot.base.rows("SELECT retry_key, reply_token FROM jobs")
    assert not any(row["retry_key"] in page for row in keys)


def test_a_user_is_blocked_and_let_in_again(stage, client):
    stage.hear(message("1", "cat"))
    (form,) = [f for f in forms(client.get("/admin", auth=AUTH).text) if f["do"] == "block"]
    assert client.post("/admin", auth=AUTH, data=form).status_code == 303
    assert stage.bot.people.blocked("Ualice")
    (form,) = [f for f in forms(client.get("/admin", auth=AUTH).text) if f["do"] == "admit"]
    client.post("/admin", auth=AUTH, data=form)
    assert not stage.bot.people.blocked("Ualice")


def test_a_failure_is_retried(stage, client):
    stage.hear(message("1", "cat"))
    stage.line.faults.append(403)
    stage.work()
    page = client.get("/admin", auth=AUTH).text
    (form,) = [f for f in forms(page) if f["do"] == "retry"]
    client.post("/admin", auth=AUTH, data=form)
    stage.work()
    assert [job["state"] for job in stage.jobs()] == ["delivered"]


def test_another_sites_form_is_refused_though_the_browser_sends_the_password(stage, client):
    stage.hear(message("1", "cat"))
    for mark in ("", "0" * 64, "é"):
        form = {"do": "block", "name": "Ualice", "mark": mark}
        assert client.post("/admin", auth=AUTH, data=form).status_code == 403
    large = {"do": "block", "name": "x" * 10_000}
    assert client.post("/admin", auth=AUTH, data=large).status_code == 403
    assert not stage.bot.people.blocked("Ualice")


def test_a_name_with_marks_of_markup_stays_within_its_button(stage, client):
    """LINE's ids have none, but the page does not rest on that."""
    name = 'U"><img src=x>'
    stage.bot.people.meet(name)
    page = client.get("/admin", auth=AUTH).text
    assert "<img" not in page
    assert 'value="U&quot;&gt;&lt;img src=x&gt;"' in page
