"""Wildcards of the studio: which lists there are, and the name of one put into a prompt.

Visitors switch them on and name lists; which folder they are in is the command line's affair. Lists
may come and go while the studio runs. Imports no torch.
"""

from __future__ import annotations

from pathlib import Path

from ldm.errors import UserError
from ldm.paths import is_folder
from ldm.pipelines.models import find
from ldm.prompts.wildcard_files import Wildcards

OWN = "wildcards"
SHIPPED = "assets/examples/wildcards"


def folder_of(given: str | None) -> str | None:
    """Return the folder of the lists: the one given, ``wildcards`` where it is, or what ships.

    Returns:
        None where there is none.

    Raises:
        UserError: The given one cannot be listed.
    """
    if given is not None:
        return str(Wildcards(given).folder)
    there = filter(is_folder, map(find, (OWN, SHIPPED)))
    return next((str(Path(each).absolute()) for each in there), None)


def lists_in(folder: str | None) -> list[str]:
    """Return the names of a folder's lists as prompts write them; none where it has gone."""
    try:
        return [f"__{name}__" for name in Wildcards(folder).files] if folder else []
    except UserError:
        return []


def with_list(prompt: str, name: str) -> str:
    """Return a prompt with a list's name at its end.

    Example:
        >>> with_list("a photo of a ", "__animals__"), with_list("", "__animals__")
        ('a photo of a __animals__', '__animals__')
    """
    return f"{prompt.rstrip()} {name}".lstrip()
