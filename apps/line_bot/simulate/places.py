"""What a bot has to be told to live beside the stand-in."""

from __future__ import annotations

from dataclasses import dataclass, field

PUBLIC_URL = "https://bot.example"  # reserved by RFC 2606: leads nowhere, on no network


@dataclass(frozen=True)
class BotPlace:
    """Where a bot and its LINE are, and the secrets of its channel.

    Args:
        line_url: ``host`` for the SDK's configuration, in place of api.line.me and
            api-data.line.me.
        channel_secret: With which webhooks are signed.
        access_token: With which the API is called.
        port: Where the bot listens, on 127.0.0.1.
        public_url: What the bot's pictures must be addressed under; the stand-in knows that it
            means the bot's port.
    """

    line_url: str
    channel_secret: str = field(repr=False)
    access_token: str = field(repr=False)
    port: int
    public_url: str = PUBLIC_URL
