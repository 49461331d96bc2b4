"""AUTOMATIC1111's ``restore_faces``: by which of the networks on the server's shelf. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apps.server.front.values import Fields, Unfit, about
from ldm.legible import quoted
from ldm.pipelines.adapter_files import find_named, on_shelf
from ldm.pipelines.networks import FACE_RESTORERS

_MODEL = "face_restoration_model"


def restorers() -> list[Path]:
    """Return the files of what redraws faces, in the order of names."""
    return on_shelf(FACE_RESTORERS)


def read_faces(fields: Fields, named: str) -> Mapping[str, Any]:
    """Return the setting that redraws faces; none where a request does not ask for it.

    Args:
        fields: The request's.
        named: What is to redraw them; empty is the first there is.

    Raises:
        Unfit: There is no such network here.
    """
    if not fields.truth("restore_faces", False):
        return {}
    found = restorers()
    if not found:
        raise Unfit(
            "restore_faces true was given, and nothing that restores faces is here; expected the "
            f"file of GFPGAN, RestoreFormer or CodeFormer in {FACE_RESTORERS.folder} on the "
            "server; leave it out, or ask who runs the server",
            "restore_faces",
        )
    # AUTOMATIC1111 has one file of each architecture, and calls it by the architecture's name.
    begun = [path for path in found if named and path.stem.lower().startswith(named.lower())]
    if len(begun) == 1:
        return {"restore_faces": begun[0].stem}
    with about(_MODEL):
        where = f"{_MODEL} {quoted(named)}"
        path = find_named(FACE_RESTORERS, named, where) if named else found[0]
    return {"restore_faces": path.stem}
