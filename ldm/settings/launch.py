"""What a user can choose about starting a training on many machines. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ldm.settings.option import REQUIRED, Settings, option, overrides_option


@dataclass(frozen=True, kw_only=True)
class LaunchSettings(Settings):
    """Settings of ``scripts/launch_training.py``."""

    program: ClassVar[str] = "launch_training"

    file: Path = option(
        REQUIRED,
        "how to start it, such as configs/launch/slurm.yaml",
        Path,
        positional=True,
        metavar="FILE",
        words="the name of a YAML file",
    )
    dry_run: bool = option(False, "show what would be started, and start nothing")
    task: bool = option(False, "train here, as one of the processes of a job that this made")
    overrides: tuple[str, ...] = overrides_option("model", "data", "lightning")
