"""How programs end: 0, 2 for a user's error, 130 for Ctrl-C; never with a traceback for those."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

from ldm.errors import UserError
from ldm.pipelines.console import Console, ConsoleLog

OK, USER_ERROR, INTERRUPTED = 0, 2, 130


def run_guarded(
    console: Console, act: Callable[[], object], left: Callable[[], str] = lambda: ""
) -> int:
    """Do a program's work and return its exit code.

    Args:
        console: Shows errors, and what the library logs as warnings; closed in the end.
        act: The work.
        left: Says what an interruption leaves behind.
    """
    try:
        with ConsoleLog(console), warnings.catch_warnings():
            if not sys.warnoptions:  # libraries' advice to programmers; python -W shows it
                warnings.simplefilter("ignore")
            act()
    except UserError as error:
        console.fail(str(error))
        return USER_ERROR
    except KeyboardInterrupt:
        console.fail(left(), kind="stopped")
        return INTERRUPTED
    finally:
        console.close()
    return OK
