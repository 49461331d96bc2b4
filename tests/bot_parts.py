"""A LINE bot for tests: its real parts, a clock that is set, and a drawer without a model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from fake_line import SECRET, TOKEN, signed

from apps.line_bot.bot import Bot, make_bot
from apps.line_bot.settings import BotSettings, Secrets, read_settings
from apps.line_bot.webhook import Webhook
from apps.line_bot.worker import Worker
from ldm.images.io import save_picture

ADMIN = "a-token-of-the-operator"
ENVIRONMENT = {
    "LINE_CHANNEL_SECRET": SECRET,
    "LINE_CHANNEL_ACCESS_TOKEN": TOKEN,
    "ADMIN_TOKEN": ADMIN,
    "PUBLIC_BASE_URL": "https://bot.example",
}


class Clock:
    """Seconds since 1970, as told."""

    def __init__(self, now: float = 1e9) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def settings_for(folder: Path, line: str, **flags: Any) -> tuple[BotSettings, Secrets]:
    given = {"data": str(folder), "line_api": line, "line_data": line, **flags}
    return read_settings(given, ENVIRONMENT)


def draw(job, folder, check) -> None:
    """Draw as many small pictures as are asked for."""
    for index in range(job.task.count):
        check()
        pixels = np.full((64, 64, 3), job.id % 255, dtype=np.uint8)
        text = f"{job.task.prompt}\nSteps: 1, Seed: {job.task.seed}, Size: 64x64"
        save_picture(pixels, folder / f"{index}.png", metadata=text)


class Stage:
    """A bot whose parts are moved by hand, one step at a time."""

    def __init__(self, folder: Path, line: str, drawer=draw, **flags: Any) -> None:
        self.settings, self.secrets = settings_for(folder, line, **flags)
        self.clock = Clock()
        self.bot: Bot = make_bot(self.settings, self.secrets)
        for part in ("queue", "outbox", "people", "warnings", "gallery", "delivery"):
            getattr(self.bot, part).clock = self.clock
        self.bot.delivery.jitter = random.Random(0).random
        self.webhook = Webhook(
            self.bot.base, self.secrets.line_channel_secret, lambda: None, self.clock
        )
        parts = self.bot.queue, self.bot.outbox, self.bot.people, self.bot.warnings
        self.worker = Worker(*parts, drawer)

    def hear(self, *events: dict) -> int:
        """Take a webhook with events, read them, and return the status."""
        status = self.webhook.take(*signed(list(events))).status_code
        while self.bot.intake.step():
            pass
        return status

    def work(self, *, send: bool = True) -> None:
        """Draw what is queued and send what is due."""
        while self.worker.step():
            pass
        while send and self.bot.delivery.step():
            pass

    def pass_time(self, seconds: float, step: float = 10.0) -> None:
        """Let time pass; what falls due meanwhile is sent."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + step)
            while self.bot.delivery.step():
                pass

    def jobs(self) -> list[Any]:
        return self.bot.base.rows("SELECT * FROM jobs ORDER BY id")

    def close(self) -> None:
        self.bot.base.close()
