"""Ask the program of this container whether it is well: what HEALTHCHECK runs.

The bot tells at /healthz whether all its threads run; a page is well if it answers. A program that
serves nothing is well as long as it runs, and a container ends with its program.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from container.run import BOT, PAGE, arguments

FIRST = Path("/proc/1/cmdline")  # of the process that a container is started with
ENTRY = "run.py"
SECONDS = 8.0  # to answer; HEALTHCHECK waits for 10


def started(command_line: bytes) -> list[str]:
    """Return the words that the entry point was started with.

    Args:
        command_line: As Linux shows it, a NUL after each word.

    Raises:
        ValueError: Another program was started.
    """
    words = command_line.decode("utf-8", "replace").split("\0")[:-1]
    places = [place for place, word in enumerate(words) if Path(word).name == ENTRY]
    if not places:
        raise ValueError(f"process 1 is {words[:1]}; expected this image's entry point")
    return words[places[0] + 1 :]


def address(words: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Return what to ask of a program that serves something; None if it does not.

    Args:
        words: As after ``docker run IMAGE``.
        environment: The container's.
    """
    given = arguments(words)
    bot = tuple(given[: len(BOT)]) == BOT
    if not bot and not Path(given[0]).stem.endswith(PAGE):
        return None
    host = value_of(given, "--host") or "127.0.0.1"
    port = value_of(given, "--port") or (_bot_port(given, environment) if bot else "7860")
    path = "healthz" if bot and "--simulate" not in given else ""
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}/{path}"


def value_of(words: Sequence[str], flag: str) -> str | None:
    """Return the last value that a flag was given; None if it was not."""
    found = None
    for word, after in zip(words, [*words[1:], None], strict=True):
        if word == flag:
            found = after
        elif word.startswith(f"{flag}="):
            found = word.removeprefix(f"{flag}=")
    return found


def _bot_port(given: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the port where no flag says it: of the environment, the TOML file or the default."""
    if environment.get("LINE_BOT_PORT"):
        return environment["LINE_BOT_PORT"]
    from apps.line_bot.settings import BotSettings, read_toml

    file = value_of(given, "--config-file")
    return str((read_toml(file) if file else {}).get("port", BotSettings.port))


def main() -> int:
    """Return 0 if the program is well, else 1 and a line about why not."""
    try:
        asked = address(started(FIRST.read_bytes()), os.environ)
        if asked:
            urllib.request.urlopen(asked, timeout=SECONDS).close()
    except Exception as error:  # whatever it is, the container is not well
        sys.stderr.write(f"not well: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
