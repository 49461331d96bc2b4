"""Networks in models/ that forms offer by name: what enlarges a first picture, what redraws faces.

Visitors choose a name of a list; what it stands for is looked up here, so that no path is typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.pipelines.adapter_files import on_shelf
from ldm.pipelines.networks import FACE_RESTORERS, UPSCALERS
from ldm.settings.hires import LABELS

NOTHING = "—"
SETTINGS = ("hires_upscaler", "restore_faces")
"""Settings that have such a list, where a schema has them and there is something to choose."""


def offered(setting: str) -> Mapping[str, str | None]:
    """Return what a setting's list offers: values by the names that visitors see.

    Args:
        setting: One of ``SETTINGS``.
    """
    if setting == "hires_upscaler":
        ways = {label: way for way, label in LABELS.items()}
        return {**ways, **{path.stem: str(path) for path in on_shelf(UPSCALERS)}}
    files = on_shelf(FACE_RESTORERS)
    return {NOTHING: None, **{path.stem: str(path) for path in files}} if files else {}


def chosen(setting: str, name: Any) -> str | None:
    """Return the value that a name stands for.

    Raises:
        UserError: It is not offered.
    """
    found = offered(setting)
    if not isinstance(name, str) or name not in found:
        raise UserError(
            f"there is no {quoted(str(name))} among the networks here; expected one of the list; "
            "choose one"
        )
    return found[name]
