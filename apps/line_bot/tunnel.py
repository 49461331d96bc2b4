"""A public https address for a bot on a private machine, by ngrok."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

from ldm.errors import UserError


@contextlib.contextmanager
def ngrok(port: int) -> Iterator[str]:
    """Open a tunnel while the block lasts.

    Args:
        port: Where the bot listens on this machine.

    Yields:
        The public address.

    Raises:
        UserError: pyngrok is not installed, or ngrok opens no tunnel.
    """
    try:
        program = importlib.import_module("pyngrok.ngrok")
    except ImportError:
        raise UserError(
            "--tunnel ngrok was given, and the package pyngrok is not installed; expected it; run: "
            "pip install pyngrok"
        ) from None
    try:
        tunnel = program.connect(str(port), bind_tls=True)
    except Exception as error:  # its message may hold the account's token
        raise UserError(
            f"ngrok opened no tunnel ({type(error).__name__}); expected an account's token in "
            "NGROK_AUTHTOKEN; see ngrok's own page"
        ) from None
    try:
        yield tunnel.public_url
    finally:
        with contextlib.suppress(Exception):
            program.disconnect(tunnel.public_url)
