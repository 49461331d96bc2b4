"""Pictures that requests bring, as front ends want them: by the name of their field."""

from __future__ import annotations

from PIL import Image

from apps.server.front.values import about
from apps.server.pictures import picture_in


def picture_in_field(text: object, field: str) -> Image.Image:
    """Return the picture that a field holds in base64, upright; its transparency is kept.

    White space is left out: shells and some languages break base64 into lines.

    Raises:
        Unfit: It holds none that is read.
    """
    text = "".join(text.split()) if isinstance(text, str) else text
    with about(field):
        return picture_in(text, field)
