"""The operator's page at /admin: queue, users, failures; block a user, retry a failure.

The token is the password that the browser asks for. A form carries a mark that only a page of ours
can know, since browsers send that password along with other sites' forms too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import html
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from apps.line_bot.jobs import Task
from apps.line_bot.secret import Secret

if TYPE_CHECKING:
    from apps.line_bot.bot import Bot

SHOWN = 50  # rows of a table
LARGEST_FORM = 4096  # bytes
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;margin-bottom:2rem}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}
td{overflow-wrap:anywhere}.warning{background:#fff3cd;padding:.5rem .8rem;border-radius:.3rem}
form{display:inline}.none{color:#777}
"""


def add_admin(app: FastAPI, bot: Bot, token: Secret) -> None:
    """Add the page; without a token there is none."""

    @app.get("/admin")
    def page(request: Request) -> Response:
        refused = _refusal(request, token)
        return refused or HTMLResponse(_page(bot, _mark(token)), headers=HEADERS)

    @app.post("/admin")
    async def act(request: Request) -> Response:
        if refused := _refusal(request, token):
            return refused
        form = await _form(request)
        if not hmac.compare_digest(form.get("mark", "").encode(), _mark(token).encode()):
            return HTMLResponse("the form is not from this page", 403, HEADERS)
        await run_in_threadpool(_act, bot, form)
        return RedirectResponse("/admin", 303, HEADERS)


def _refusal(request: Request, token: Secret) -> Response | None:
    """Return the answer to who does not know the token; None lets them in."""
    if not token:
        return HTMLResponse("there is no page without ADMIN_TOKEN", 404, HEADERS)
    kind, _, rest = request.headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(rest, validate=True).decode() if kind.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError, ValueError):
        given = ""
    if token.equals(given.partition(":")[2]):
        return None
    ask = {"WWW-Authenticate": 'Basic realm="the operator; the password is ADMIN_TOKEN"'}
    return HTMLResponse("the password is ADMIN_TOKEN", 401, {**HEADERS, **ask})


def _mark(token: Secret) -> str:
    return hmac.new(token.reveal().encode(), b"forms of /admin", hashlib.sha256).hexdigest()


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            return {}
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=10))
    except ValueError:
        return {}


def _act(bot: Bot, form: dict[str, str]) -> None:
    action, name = form.get("do", ""), form.get("name", "")
    if action in ("block", "admit") and 0 < len(name) <= 64:
        bot.people.block(name, blocked=action == "block")
    elif action == "retry":
        with bot.base.transaction():
            pictures = bot.queue.given_back(name)
            if bot.queue.retry(name) and pictures:
                bot.people.charge(bot.queue.named(name).user, pictures)
        bot.news.spread()
    elif action == "seen":
        bot.warnings.over(name)


def _page(bot: Bot, mark: str) -> str:
    counts = " · ".join(f"{state}: {n}" for state, n in sorted(bot.queue.counts().items()))
    parts = [
        f"<h1>LINE bot</h1><p>{html.escape(counts or 'no jobs yet')}</p>",
        *_warnings(bot, mark),
        "<h2>Queue</h2>",
        _table(("since", "user", "state", "prompt", "attempts"), _queue(bot)),
        "<h2>Not delivered yet</h2>",
        _table(("since", "chat", "tries", "next try", "reason"), _outbox(bot)),
        "<h2>Failures</h2>",
        _table(("when", "user", "prompt", "reason", ""), _failures(bot, mark)),
        "<h2>Users</h2>",
        _table(("user", "pictures today", "jobs", "last seen", ""), _users(bot, mark)),
    ]
    head = f'<meta charset="utf-8"><title>LINE bot</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _warnings(bot: Bot, mark: str) -> Iterable[str]:
    for row in bot.base.rows("SELECT * FROM warnings ORDER BY last DESC LIMIT ?", SHOWN):
        said = f"{_time(row['last'])}: {row['text']} ({row['times']} times)"
        button = _button("seen", row["kind"], "Seen", mark)
        yield f'<p class="warning">{html.escape(said)} {button}</p>'


def _queue(bot: Bot) -> Iterable[list[str]]:
    query = (
        "SELECT * FROM jobs WHERE state IN ('queued','drawing','drawn') ORDER BY state, id LIMIT ?"
    )
    for row in bot.base.rows(query, SHOWN):
        shown = [_time(row["created"]), row["user"], row["state"], _prompt(row), row["attempts"]]
        yield [html.escape(str(each)) for each in shown]


def _outbox(bot: Bot) -> Iterable[list[str]]:
    query = "SELECT * FROM outbox WHERE state='waiting' ORDER BY id LIMIT ?"
    for row in bot.base.rows(query, SHOWN):
        times = _time(row["created"]), row["chat"], row["tries"], _time(row["next_try"])
        yield [html.escape(str(each)) for each in (*times, row["reason"])]


def _failures(bot: Bot, mark: str) -> Iterable[list[str]]:
    query = "SELECT * FROM jobs WHERE state='failed' ORDER BY ended DESC LIMIT ?"
    for row in bot.base.rows(query, SHOWN):
        shown = [_time(row["ended"]), row["user"], _prompt(row), row["reason"]]
        yield [*map(html.escape, shown), _button("retry", row["name"], "Retry", mark)]


def _users(bot: Bot, mark: str) -> Iterable[list[str]]:
    query = (
        "SELECT users.*, (SELECT count(*) FROM jobs WHERE jobs.user=users.user) AS jobs, "
        "coalesce((SELECT pictures FROM quotas WHERE quotas.user=users.user AND day=?), 0) AS had "
        "FROM users ORDER BY blocked DESC, seen DESC LIMIT ?"
    )
    for row in bot.base.rows(query, bot.people.day(), SHOWN):
        shown = [row["user"], row["had"], row["jobs"], _time(row["seen"])]
        act, label = ("admit", "Let in again") if row["blocked"] else ("block", "Block")
        yield [*(html.escape(str(each)) for each in shown), _button(act, row["user"], label, mark)]


def _prompt(row: Any) -> str:
    return Task.read(row["task"]).prompt[:200]


def _time(seconds: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def _table(heads: tuple[str, ...], rows: Iterable[list[str]]) -> str:
    """Return a table; its cells are HTML already."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return '<p class="none">none</p>'
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{body}</table>"


def _button(action: str, name: str, label: str, mark: str) -> str:
    values = {"do": action, "name": name, "mark": mark}
    fields = "".join(
        f'<input type="hidden" name="{key}" value="{html.escape(value)}">'
        for key, value in values.items()
    )
    return f'<form method="post" action="/admin">{fields}<button>{label}</button></form>'
