"""Serve the studio: one page to draw, repair, enlarge, compare and keep pictures.

It answers to this machine alone unless --listen is given. See docs/studio.md.

Example:
    python -m apps.studio --port 7860
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from apps.studio.settings import StudioSettings
from ldm.programs.console import Console, exit_codes
from ldm.programs.start import leave, read_flags


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code: 0, or 2 for a user's error.

    Args:
        argv: Arguments without the program's name; None takes ``sys.argv``.
    """
    console = Console(StudioSettings.program, sys.stdout, sys.stderr)
    # Ctrl-C is how a server ends; visitors' warnings are for their pages.
    ending = exit_codes(console, takes_warnings=False)
    with ending as end, contextlib.suppress(KeyboardInterrupt):
        flags = StudioSettings(**read_flags(StudioSettings, __doc__ or "", argv))
        flags.validate()
        from apps.studio.app import serve

        serve(flags, flags.auth_of(os.environ), console)
    return end.code


if __name__ == "__main__":
    leave(main())
