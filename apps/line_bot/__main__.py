"""Run the LINE bot: a message to its account becomes a picture in the chat.

Secrets come from the environment or from --config-file: LINE_CHANNEL_SECRET,
LINE_CHANNEL_ACCESS_TOKEN and, for the operator's page, ADMIN_TOKEN. Every other setting may stand
there too, as LINE_BOT_<NAME> in the environment.

Example:
    PUBLIC_BASE_URL=https://draw.example.org python -m apps.line_bot --daily_pictures 20
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from apps.line_bot.logs import start_logging
from apps.line_bot.secret import Secret
from apps.line_bot.settings import BotSettings, Secrets, read_settings
from ldm.errors import UserError
from ldm.programs.console import Console, exit_codes
from ldm.programs.start import read_flags
from ldm.settings.option import option

SIMULATION = "apps.line_bot.simulate"
SIMULATED_DATA = "outputs/line_bot_simulated"


@dataclass(frozen=True, kw_only=True)
class Flags(BotSettings):
    """What stands on the command line alone."""

    config_file: str | None = option(
        None, "a TOML file with settings and secrets", str, flag="--config-file", metavar="FILE",
        group="bot",
    )  # fmt: skip
    simulate: bool = option(
        False, "talk to a stand-in for LINE on this machine: no account, no network", group="bot"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bot until Ctrl-C; return the exit code: 0, or 2 for a user's error.

    Args:
        argv: Arguments without the program's name; None takes ``sys.argv``.
    """
    console = Console(BotSettings.program, sys.stdout, sys.stderr)
    ending = exit_codes(console, takes_warnings=False)
    with ending as end, contextlib.suppress(KeyboardInterrupt):  # which is how it ends
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # how a container stops it
        given = read_flags(Flags, __doc__ or "", argv)
        file, simulated = given.pop("config_file", None), given.pop("simulate", False)
        start_logging(console.err)
        if simulated:
            _simulate(given, file, console)
        else:
            _serve(*read_settings(given, os.environ, file), console)
    return end.code


def _serve(settings: BotSettings, channel: Secrets, console: Console) -> None:
    from optimizedSD.web.server import check_address

    check_address(settings.host, settings.port)
    with contextlib.ExitStack() as stack:
        if settings.tunnel == "ngrok":
            from apps.line_bot.tunnel import ngrok

            settings = replace(settings, public_base_url=stack.enter_context(ngrok(settings.port)))
        app = make_application(settings, channel, console.say)
        console.say(
            f"Webhook address for LINE: {(settings.public_base_url or '').rstrip('/')}/callback"
        )
        import uvicorn

        uvicorn.run(
            app, host=settings.host, port=settings.port, log_level="warning", access_log=False,
            server_header=False, ws="none",
        )  # fmt: skip


def make_application(settings: BotSettings, channel: Secrets, say: Callable[[str], object]) -> Any:
    """Find the model and return the bot's web application; models load when it starts.

    Args:
        settings: The operator's.
        channel: Its secrets.
        say: Shows a line.

    Raises:
        UserError: there is no model, or another bot works in the folder.
    """
    from apps.line_bot.application import application
    from apps.line_bot.bot import make_bot
    from apps.line_bot.model import model_for
    from apps.line_bot.studio import open_studio

    choice = model_for(settings)
    if choice.notice:
        say(choice.notice)
    bot = make_bot(settings, channel)
    load = [
        partial(open_studio, settings, device, bot.queue, bot.line) for device in settings.device
    ]
    return application(bot, channel, load)


def _simulate(given: dict[str, Any], file: str | None, console: Console) -> None:
    if importlib.util.find_spec(SIMULATION) is None:
        raise UserError(f"--simulate was given, and {SIMULATION} is not there; install it whole")
    running = importlib.import_module(f"{SIMULATION}.running")
    port, host = given.pop("port", 0), given.pop("host", BotSettings.host)

    def make(place: Any) -> Any:
        here = {
            "public_base_url": place.public_url,
            "line_api": place.line_url,
            "line_data": place.line_url,
            "port": place.port,
        }
        channel = {
            "LINE_CHANNEL_SECRET": place.channel_secret,
            "LINE_CHANNEL_ACCESS_TOKEN": place.access_token,
            # A real bot's queue is not to be filled with a stand-in's messages.
            "LINE_BOT_DATA": SIMULATED_DATA,
        }
        settings, chosen = read_settings({**given, **here}, {**os.environ, **channel}, file)
        chosen = _with_operator(chosen, place.port, console.say)
        return make_application(settings, chosen, console.say)

    running.run_simulation(make, say=console.say, port=port, host=host)


def _with_operator(chosen: Secrets, port: int, say: Callable[[str], object]) -> Secrets:
    """Say where a simulated bot's operator's page is; give it a password of this run if none is."""
    page = f"Operator's page: http://127.0.0.1:{port}/admin"
    if chosen.admin_token:
        say(f"{page} (the password is ADMIN_TOKEN)")
        return chosen
    password = secrets.token_urlsafe(12)
    say(f"{page} (the password is {password} until this run ends)")
    return replace(chosen, admin_token=Secret(password))


if __name__ == "__main__":
    sys.exit(main())
