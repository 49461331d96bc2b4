"""How a program with a settings class begins: flags read, checked, then its one function called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ldm.programs.console import Console, exit_codes
from ldm.settings.command_line import parse
from ldm.settings.option import Settings

Schema = TypeVar("Schema", bound=Settings)


def read_flags(
    schema: type[Settings], description: str, argv: Sequence[str] | None
) -> dict[str, Any]:
    """Return the settings that a command line gives; let pictures be as large as it says.

    Args:
        schema: The settings class whose options are the program's flags.
        description: First lines of ``--help``.
        argv: Arguments without the program's name; None takes ``sys.argv``.

    Raises:
        UserError: A flag is not known, or its value is wrong.
    """
    given = parse(schema, description, argv)
    if "max_pixels" in given:
        from ldm.images.opening import allow_pixels  # imports Pillow, which --help can do without

        allow_pixels(given["max_pixels"])
    return given


def run_settings_program(
    schema: type[Schema],
    description: str,
    act: Callable[[Console, Schema], object],
    argv: Sequence[str] | None = None,
    *,
    left: str = "nothing was written",
) -> int:
    """Run a program and return its exit code: 0, 2 for a user's error, 130 for Ctrl-C.

    Args:
        schema: The settings class whose options are the program's flags.
        description: First lines of ``--help``.
        act: Does the work; its settings are checked.
        argv: Arguments without the program's name; None takes ``sys.argv``.
        left: What an interruption leaves behind.
    """
    console = Console(schema.program, sys.stdout, sys.stderr)
    with exit_codes(console, lambda: left) as ending:
        settings = schema(**read_flags(schema, description, argv))
        settings.validate()
        act(console, settings)
    return ending.code
