"""Logging of the bot's processes."""

from __future__ import annotations

import logging
from typing import TextIO

# Their own lines of requests hold headers, and those hold the token.
_QUIET = ("linebot", "urllib3", "httpx", "httpcore", "botocore", "pyngrok")


def start_logging(stream: TextIO, level: int = logging.INFO) -> None:
    """Log to a stream; no library's own requests, whose headers hold the token."""
    logging.basicConfig(stream=stream, level=level, format="%(asctime)s %(levelname)s %(message)s")
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
