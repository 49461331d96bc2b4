"""A stand-in and a bot beside each other, on free ports, with secrets of their own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from apps.line_bot.simulate.places import BotPlace
from apps.line_bot.simulate.serving import HOST, Served, free_port
from apps.line_bot.simulate.stand_in import StandIn

WEBHOOK_PATH = "/callback"
GROUP = "美術部"  # an art club: where the bot answers only to its name


@contextlib.contextmanager
def simulation(
    make_bot_app: Callable[[BotPlace], Any], *, port: int = 0, **options: Any
) -> Iterator[StandIn]:
    """Run a stand-in and a bot while the block lasts.

    Args:
        make_bot_app: Returns the bot's ASGI application, which takes webhooks at /callback and
            serves its pictures under the place's public address.
        port: Of the stand-in and its page; 0 takes a free one.
        options: More of `StandIn`'s.

    Yields:
        The stand-in, connected to the bot.
    """
    with StandIn(port=port, **options) as line:
        line.add_group(GROUP, *line.users)
        place = BotPlace(line.address, line.secret, line.access_token, free_port())
        bot = Served(make_bot_app(place), place.port)
        bot.start()
        line.connect(f"{bot.address}{WEBHOOK_PATH}", {place.public_url: bot.address})
        try:
            yield line
        finally:
            bot.end()


def run_simulation(
    make_bot_app: Callable[[BotPlace], Any],
    *,
    say: Callable[[str], object],
    port: int = 0,
    host: str = HOST,
) -> None:
    """Run a stand-in and a bot until Ctrl-C.

    Args:
        make_bot_app: See `simulation`.
        say: Shows a line: where the page is.
        port: Of the page; 0 takes a free one.
        host: The address that the page listens on.

    Raises:
        UserError: The port cannot be listened on.
    """
    with simulation(make_bot_app, port=port, host=host) as line:
        wait_for_end(line, say)


def wait_for_end(line: StandIn, say: Callable[[str], object]) -> None:
    """Say where the page is, and return on Ctrl-C."""
    say(f"Chat page: {line.address}/ (Ctrl-C ends it)")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
