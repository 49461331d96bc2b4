"""Forms with files, whole or refused: the parser itself drops what is cut off without a word."""

from __future__ import annotations

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile

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
    await check_whole(http)
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


async def check_whole(http: Request) -> None:
    """Check that a request's body is a form to its end; ``http.form()`` still reads it.

    Raises:
        Refused: It is another kind of body, or its end is missing.
    """
    kind, options = parse_options_header(http.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise Refused(400, "the body is no form; expected multipart/form-data with its boundary")
    body = await http.body()
    if not body.rstrip(b"\r\n\t ").endswith(b"--" + boundary + b"--"):
        raise Refused(400, "the form has no end; expected all of it; send it again")
