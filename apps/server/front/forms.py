"""Read forms with files: each text once, the files by their names."""

from __future__ import annotations

from fastapi import Request
from starlette.datastructures import UploadFile

from apps.server.answers import check_form_is_whole
from apps.server.front.values import Unfit
from apps.server.refused import Refused

Form = tuple[dict[str, str], dict[str, list[bytes]]]
MOST_FILES, MOST_FIELDS = 4, 40


async def read_form(http: Request) -> Form:
    """Return the texts and the files of a form, by name; ``image[]`` counts as ``image``.

    Raises:
        Unfit: A text is there twice.
        Refused: The body is no form, or is cut off.
        HTTPException: A part is no part of a form, or there are too many.
    """
    if not http.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refused(400, "the body is no form; expected multipart/form-data; send one")
    await check_form_is_whole(http)
    texts: dict[str, str] = {}
    files: dict[str, list[bytes]] = {}
    async with http.form(max_files=MOST_FILES, max_fields=MOST_FIELDS) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                files.setdefault(name.removesuffix("[]"), []).append(await value.read())
            elif name in texts:
                raise Unfit(f"{name} was given twice; expected it once", name)
            else:
                texts[name] = value
    return texts, files
