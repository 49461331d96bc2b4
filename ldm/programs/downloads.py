"""What a user of ``scripts/download_models.py`` can choose. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ldm.checkpoint.download.sources import MODELS
from ldm.settings.option import Settings, option


@dataclass(frozen=True, kw_only=True)
class DownloadSettings(Settings):
    """Settings of ``scripts/download_models.py``."""

    program: ClassVar[str] = "download_models"

    names: tuple[str, ...] = option(
        (),
        f"the models to fetch, of {', '.join(MODELS)}",
        str,
        positional=True,
        several="*",
        metavar="NAME",
    )
    list: bool = option(False, "say what there is, and stop")
    dest: Path | None = option(None, "put the files there instead", Path, metavar="FOLDER")
