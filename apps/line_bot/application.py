"""The bot as a web application: it starts to work when that is served, and ends with it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI

from apps.line_bot.admin import add_admin
from apps.line_bot.bot import Bot
from apps.line_bot.settings import Secrets
from apps.line_bot.webhook import Webhook, make_app
from apps.line_bot.worker import Draw


def application(bot: Bot, secrets: Secrets, load: list[Callable[[], Draw]]) -> FastAPI:
    """Return the bot's web application, which starts and ends the bot with itself."""
    webhook = Webhook(bot.base, secrets.line_channel_secret, bot.news.spread)
    app = make_app(webhook, bot.gallery, bot.alive)
    add_admin(app, bot, secrets.admin_token)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        bot.start(load)
        try:
            yield
        finally:
            bot.end()

    app.router.lifespan_context = lifespan
    return app
