"""Fetch the bot's pictures as LINE and its apps would: from its public address, within the limits.

The public address leads nowhere on this machine; a map says which local server stands behind it.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from apps.line_bot.simulate.calling import new_client
from apps.line_bot.simulate.rules import LARGEST_PICTURE, LARGEST_PREVIEW, PICTURE_TYPES

_SIGNATURES = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n"}
_TIMEOUT = 10.0  # seconds


class Unfit(Exception):
    """A picture that LINE's apps would not show, with the reason."""


class Pictures:
    """Fetches what addresses in messages lead to.

    Args:
        places: Public address -> local one, such as {"https://bot.example": "http://127.0.0.1:80"}.
    """

    def __init__(self, places: Mapping[str, str] | None = None) -> None:
        self.places = dict(places or {})
        self._client = new_client(_TIMEOUT)

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

    def local(self, url: str) -> str:
        """Return the address on this machine that a public one stands for.

        Raises:
            Unfit: No place of the map has this address.

        Example:
            >>> Pictures({"https://bot.example": "http://127.0.0.1:80"}).local("https://bot.example/a")
            'http://127.0.0.1:80/a'
        """
        for public, local in self.places.items():
            rest = url.removeprefix(public.rstrip("/"))
            if rest != url and rest.startswith("/"):
                return local.rstrip("/") + rest
        known = ", ".join(self.places) or "none"
        raise Unfit(f"{url} is not the bot's public address; known are: {known}")

    def fetch(self, url: str, *, preview: bool = False) -> tuple[bytes, str]:
        """Return a picture's bytes and content type.

        Args:
            url: As the bot sent it.
            preview: Whether it is the small one, which may have 1 MB where the other has 10.

        Raises:
            Unfit: It cannot be fetched, or is larger or of another kind than LINE shows.
        """
        most = LARGEST_PREVIEW if preview else LARGEST_PICTURE
        try:
            with self._client.stream("GET", self.local(url)) as answer:
                if answer.status_code != 200:
                    raise Unfit(f"{url} was answered with {answer.status_code}")
                kind = answer.headers.get("content-type", "").partition(";")[0].strip()
                data = _read(answer, most, url)
        except httpx.HTTPError as error:
            raise Unfit(f"{url} cannot be fetched: {type(error).__name__}") from error
        if kind not in PICTURE_TYPES or not data.startswith(_SIGNATURES[kind]):
            raise Unfit(
                f"{url} is {kind or 'of no kind'}; LINE shows {' and '.join(PICTURE_TYPES)}"
            )
        return data, kind


def _read(answer: httpx.Response, most: int, url: str) -> bytes:
    data = b""
    for part in answer.iter_bytes():
        data += part
        if len(data) > most:
            raise Unfit(f"{url} has more than {most} bytes, the most that LINE shows")
    return data
