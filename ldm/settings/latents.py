"""What a user can choose about encoding a data set once. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ldm.errors import UserError
from ldm.settings.option import (
    REQUIRED,
    Settings,
    device_option,
    max_pixels_option,
    option,
    overrides_option,
)


@dataclass(frozen=True, kw_only=True)
class PrecomputeSettings(Settings):
    """Settings of ``scripts/precompute_latents.py``."""

    program: ClassVar[str] = "precompute_latents"

    base: tuple[Path, ...] = option(
        REQUIRED,
        "configurations of the model and its data, merged in order",
        Path,
        synonyms=("-b",),
        several="+",
        metavar="YAML",
        words="the name of a YAML file",
    )
    out: Path = option(
        REQUIRED,
        "the folder to write; one that was begun is continued",
        Path,
        metavar="FOLDER",
    )
    ckpt: Path | None = option(
        None, "weights of a whole model", Path, shown="as the configuration says", metavar="FILE"
    )
    split: str = option("train", "which data set", choices=("train", "validation", "test"))
    no_text: bool = option(False, "encode the pictures alone")
    half: bool = option(False, "write float16: half the disk space, about three digits")
    batch_size: int = option(8, "pictures encoded at a time", minimum=1)
    shard_size: int = option(1024, "items in a file", minimum=1)
    part: str | None = option(
        None,
        "encode the K-th of N parts of the files, beside other processes that encode the rest",
        str,
        metavar="K/N",
        pattern=r"\d+/\d+",
        words="K/N, such as 1/8 to 8/8",
        shown="all of them",
    )
    num_workers: int = option(0, "processes that read pictures", minimum=0)
    max_pixels: int = max_pixels_option()
    device: str = device_option()
    seed: int = option(23, "seed of random crops and flips, which are drawn once", minimum=0)
    overrides: tuple[str, ...] = overrides_option("model", "data")

    @property
    def share(self) -> tuple[int, int]:
        """The part to encode and how many there are, from ``part``; (1, 1) where none is given."""
        number, count = (self.part or "1/1").split("/")
        return int(number), int(count)

    def validate(self) -> None:
        """Check each value, and that there is such a part."""
        super().validate()
        number, count = self.share
        if not 1 <= number <= count:
            raise UserError(
                f"--part {self.part} was given; expected 1/{max(1, count)} to "
                f"{max(1, count)}/{max(1, count)}; change it"
            )
