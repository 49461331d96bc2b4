"""Small tables in the user's cache folder: what one run found out and the next need not.

A table is a JSON object in a file of its own. It may be lost or damaged at any time, and several
runs may write it at once: then some find out again what they had known.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldm.atomic import replacing
from ldm.paths import ERRORS, at_home

logger = logging.getLogger(__name__)


def cache_file(name: str) -> Path:
    """Return where a table is kept. A shared home folder serves several machines."""
    home = at_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return home / "latent-diffusion" / f"{name}.json"


def kept(name: str) -> dict[str, Any]:
    """Return a table; empty where none can be read."""
    try:
        table = json.loads(cache_file(name).read_text(encoding="utf-8"))
    except (*ERRORS, RecursionError):  # ValueError, one of them, is a text that is no JSON
        return {}
    return table if isinstance(table, dict) else {}


def keep(name: str, table: Mapping[str, Any]) -> None:
    """Replace a table. Where the folder cannot be written, the next run has to find out again."""
    path = cache_file(name)
    try:
        with replacing(path) as part:
            part.write_text(json.dumps(table, indent=1), encoding="utf-8")
    except ERRORS as error:
        logger.info("%s cannot be kept: %s", path, error)
