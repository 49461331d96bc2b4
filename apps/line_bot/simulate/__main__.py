"""Run the stand-in for LINE's servers and its chat page; with --echo, a tiny bot beside it.

python -m apps.line_bot.simulate --echo
python -m apps.line_bot.simulate --bot-url http://127.0.0.1:8000/callback
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from urllib.parse import urlsplit

from ldm.arguments import ArgumentParser
from ldm.errors import UserError
from ldm.programs.console import Console, exit_codes

PROGRAM = "simulate"
SECRET, TOKEN = "LINE_CHANNEL_SECRET", "LINE_CHANNEL_ACCESS_TOKEN"


def main(argv: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C; return the exit code: 0, or 2 for a user's error.

    Args:
        argv: Arguments without the program's name; None takes ``sys.argv``.
    """
    console = Console(PROGRAM, sys.stdout, sys.stderr)
    with (
        exit_codes(console, takes_warnings=False) as ending,
        contextlib.suppress(KeyboardInterrupt),
    ):
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # how a container stops it
        flags = _flags(argv)
        if flags.echo:
            _run_echo(flags, console)
        else:
            _run_alone(flags, console)
    return ending.code


def _flags(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog=PROGRAM, description=(__doc__ or "").split("\n")[0])
    bot = parser.add_mutually_exclusive_group(required=True)
    bot.add_argument(
        "--bot-url", metavar="URL",
        help=f"where the bot takes webhooks; its secret and token are read from {SECRET} and "
        f"{TOKEN}, as the bot's own are",
    )  # fmt: skip
    bot.add_argument("--echo", action="store_true", help="run a bot that says what it hears")
    parser.add_argument(
        "--public-url", metavar="URL", default="https://bot.example",
        help="the bot's PUBLIC_BASE_URL, which here means --bot-url (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=int, default=8901, help="of the page; 0 takes a free one (%(default)s)"
    )
    return parser.parse_args(argv)


def _run_echo(flags: Namespace, console: Console) -> None:
    from apps.line_bot.simulate.echo import make_echo_bot
    from apps.line_bot.simulate.running import run_simulation

    run_simulation(make_echo_bot, say=console.say, port=flags.port)


def _run_alone(flags: Namespace, console: Console) -> None:
    from apps.line_bot.simulate.running import GROUP, wait_for_end
    from apps.line_bot.simulate.stand_in import StandIn

    secret, token = _given(SECRET), _given(TOKEN)
    bot = urlsplit(flags.bot_url)
    if bot.scheme not in ("http", "https") or not bot.netloc:
        raise UserError(
            f"--bot-url {flags.bot_url!r} is no address; expected one such as "
            "http://127.0.0.1:8000/callback"
        )
    with StandIn(secret=secret, access_token=token, port=flags.port) as line:
        line.add_group(GROUP, *line.users)
        line.connect(flags.bot_url, {flags.public_url: f"{bot.scheme}://{bot.netloc}"})
        console.say(f"LINE's API for the bot: {line.address}")
        wait_for_end(line, console.say)


def _given(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise UserError(f"{name} is not set; give the stand-in the same one as the bot")
    return value


if __name__ == "__main__":
    sys.exit(main())
