"""Users' photos, fetched from LINE at most once."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from apps.line_bot.line_api import Outcome
from apps.line_bot.worker import BadPhoto, NotNow
from ldm.atomic import replacing

LARGEST_PHOTO = 20 * 2**20  # bytes


class Line(Protocol):
    """Where photos are; see ``line_api.LineApi``."""

    def photo(self, message_id: str) -> Outcome: ...


def fetched(data: Path, line: Line, message_id: str) -> Path:
    """Return the file of a user's photo, as they sent it.

    Args:
        data: The bot's folder.
        line: Where it is.
        message_id: The message that holds it.

    Raises:
        BadPhoto: It is not there any more, or too large.
        NotNow: LINE does not give it now.
    """
    path = data / "photos" / f"{message_id}.bin"
    if path.is_file():
        return path
    outcome = line.photo(message_id)
    if outcome.answer == "refused":
        raise BadPhoto(f"the photo is not there: {outcome.reason}")
    if not outcome.done:
        raise NotNow(f"a photo cannot be fetched: {outcome.reason}")
    if len(outcome.value) > LARGEST_PHOTO:
        raise BadPhoto(f"the photo has {len(outcome.value)} bytes")
    with replacing(path) as part:
        part.write_bytes(outcome.value)
    return path
