"""Pictures at Imgur, for holders of an old client id: it gives out no new ones."""

from __future__ import annotations

import base64
import re

import httpx

from apps.line_bot.pictures import checked_address
from apps.line_bot.secret import Secret

API = "https://api.imgur.com/3/image"
PATIENCE = 30.0  # seconds


class ImgurPictures:
    """Pictures at Imgur. Anyone may see them who is told the address; names are Imgur's own.

    Args:
        client_id: The application's.
        api: Imgur's address for pictures.
    """

    def __init__(self, client_id: Secret, api: str = API) -> None:
        self._client_id, self._api = client_id, api

    def put(self, name: str, data: bytes) -> str:  # noqa: ARG002 - Imgur gives its own
        """Upload a JPEG; the handle is its address, and what removes it."""
        form = {"image": base64.b64encode(data).decode(), "type": "base64"}
        found = self._call("POST", self._api, form).get("data")
        link, remover = (found or {}).get("link"), (found or {}).get("deletehash")
        if not isinstance(link, str) or not re.fullmatch(r"\w+", str(remover)):
            raise OSError("Imgur answered without an address")
        link = re.sub(r"^http://", "https://", link)  # LINE takes nothing else
        return f"{remover} {checked_address(link)}"

    def url(self, handle: str) -> str:
        """Return the picture's address."""
        return handle.partition(" ")[2]

    def remove(self, handle: str) -> None:
        """Remove a picture."""
        self._call("DELETE", f"{self._api}/{handle.partition(' ')[0]}", None)

    def _call(self, method: str, url: str, form: dict[str, str] | None) -> dict:
        headers = {"Authorization": f"Client-ID {self._client_id.reveal()}"}
        try:
            answer = httpx.request(method, url, data=form, headers=headers, timeout=PATIENCE)
            if answer.status_code == 404 and method == "DELETE":
                return {}
            answer.raise_for_status()
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise OSError(f"Imgur failed: {type(error).__name__}") from None
        return found if isinstance(found, dict) else {}
