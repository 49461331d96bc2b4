"""What a user of `scripts/sweep.py` can choose: pictures, and what varies. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ldm.settings.generation import DRAWING_GROUPS, Img2ImgSettings, Txt2ImgSettings
from ldm.settings.option import changed, option

_FORMS = '"scale: 2-21 [7]", "seed: 1-10 (+3)", "sampler: ddim, plms" or "prompt: cat, dog"'


def _axis(help: str) -> Any:
    words = 'a setting and its values, such as "scale: 2-21 [7]"'
    return option(None, help, str, group="sweep", metavar="AXIS", words=words)


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Txt2ImgSettings):
    """Settings of a sweep: those of text-to-image, or with ``init_img`` of image-to-image.

    Example:
        >>> SweepSettings(x="scale: 1, 3").n_iter
        1
    """

    program: ClassVar[str] = "sweep"
    groups: ClassVar[Mapping[str, str]] = {"sweep": "what varies", **DRAWING_GROUPS}

    x: str | None = _axis(
        f"the setting that varies from column to column, and its values: {_FORMS}; of prompt, the "
        "first text is searched in the prompts and replaced by each"
    )
    y: str | None = _axis("the setting that varies from row to row")
    z: str | None = _axis("the setting that varies from one block of rows to the next")
    together: int = option(
        3,
        "how many combinations are drawn at a time where they may share a batch; fewer take less "
        "memory",
        minimum=1,
        group="sweep",
    )
    label_size: int | None = option(
        None,
        "height of the labels' letters in pixels",
        int,
        minimum=6,
        maximum=200,
        shown="to suit the pictures",
        group="sweep",
    )
    init_img: str | None = changed(
        Img2ImgSettings,
        "init_img",
        help="a picture to start from, as of image-to-image, whose defaults then hold",
        shown="none: from text alone",
    )
    strength: float = changed(
        Img2ImgSettings,
        "strength",
        help="how much to change --init-img: 0 keeps it, 1 starts from noise; of no effect "
        "without one",
    )
    from_file: str | None = changed(
        Txt2ImgSettings,
        "from_file",
        help='not for sweeps, which vary one prompt: --x "prompt: ..."',
    )
    skip_grid: bool = changed(
        Txt2ImgSettings, "skip_grid", help="write single pictures and the table only, no sheet"
    )
    skip_save: bool = changed(
        Txt2ImgSettings, "skip_save", help="write the sheet and the table only, no single pictures"
    )
    outdir: str = changed(Txt2ImgSettings, "outdir", default="outputs/sweep-samples")
    n_iter: int = changed(Txt2ImgSettings, "n_iter", default=1)
    n_samples: int = changed(
        Txt2ImgSettings,
        "n_samples",
        default=1,
        help="pictures of each combination, as a small grid",
    )
    # Only pictures with a seed of their own share a batch with others.
    seed_mode: str = changed(Txt2ImgSettings, "seed_mode", default="per-image")
    n_rows: int = changed(Txt2ImgSettings, "n_rows", help="pictures per row of such a small grid")

    @property
    def axes(self) -> tuple[str | None, str | None, str | None]:
        """What was given of x, y and z."""
        return self.x, self.y, self.z


OWN = ("x", "y", "z", "together", "label_size")
"""Settings of the sweep itself; the others are those of each picture."""
