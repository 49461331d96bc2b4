"""The stand-in: a channel whose API and chat page answer on a port of this machine.

with StandIn() as line:
    configuration = Configuration(host=line.address, access_token=line.access_token)
    line.connect("http://127.0.0.1:8000/callback", {"https://bot.example": "http://127.0.0.1:8000"})
    line.say(line.users[0], "猫")
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from apps.line_bot.simulate.channel import Channel
from apps.line_bot.simulate.page import add_page
from apps.line_bot.simulate.server import add_api
from apps.line_bot.simulate.serving import HOST, Served


class StandIn(Channel):
    """A channel that is served while the block lasts.

    Args:
        port: Where to listen; 0 takes a free one.
        host: The address to listen on; the page answers to this machine's own names alone.
        options: Of `Channel`.

    Raises:
        UserError: The port is taken or cannot be one.
    """

    def __init__(self, *, port: int = 0, host: str = HOST, **options: Any) -> None:
        super().__init__(**options)
        app = FastAPI(title="LINE stand-in", docs_url=None, redoc_url=None, openapi_url=None)
        add_api(app, self)
        add_page(app, self)
        self.served = Served(app, port, host)
        self.address = self.served.address

    def __enter__(self) -> StandIn:
        self.served.start()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.served.end()
