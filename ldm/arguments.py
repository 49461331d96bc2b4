"""Command lines whose mistakes are errors like any other: one line, exit code 2."""

from __future__ import annotations

import argparse
from typing import NoReturn

from ldm.errors import UserError


class ArgumentParser(argparse.ArgumentParser):
    """Raises UserError where argparse would print its usage over several lines and leave.

    Example:
        >>> ArgumentParser().parse_args(["--x"])
        Traceback (most recent call last):
        ...
        ldm.errors.UserError: unrecognized arguments: --x; see --help for what is expected
    """

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help for what is expected")
