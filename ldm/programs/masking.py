"""Make masks of pictures and write them: what ``scripts/mask.py`` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ldm.errors import UserError
from ldm.images.io import load_image, save_picture
from ldm.images.opening import FIRST_ALONE, holds_several
from ldm.images.pixels import named
from ldm.masking.making import make_mask
from ldm.masking.refining import HALF
from ldm.paths import exists, file_writing_fault
from ldm.programs.console import Console
from ldm.programs.pairs import MASK_ENDING
from ldm.settings.masks import PATH_ONLY, MaskProgramSettings


def write_masks(console: Console, settings: MaskProgramSettings) -> None:
    """Make the mask of each picture and write it.

    Raises:
        UserError: A picture cannot be read, its mask marks nothing or cannot be written, or the
            options do not fit.
    """
    silent = settings.out == PATH_ONLY
    places = {Path(path): _place(Path(path), settings.out) for path in settings.images}
    if len({*places.values()}) < len(settings.images):
        raise UserError(
            "two of the pictures would have the same mask's file; expected pictures of different "
            "names; make their masks one by one with --out"
        )
    for path, place in places.items():
        load_image(path)  # before the first is made, as the others may take a while
        if holds_several(path):
            console.warn(f"{path} {FIRST_ALONE}")
        _check(place, may_be_there=silent)
    for path, place in places.items():
        picture = load_image(path)
        with named(f"image {path}:"):
            mask = make_mask(picture, settings, settings.device)
        share = float((mask >= HALF).mean())
        if share == 0.0:
            raise UserError(
                f"the mask of {path} marks nothing; expected some of the picture; "
                f"{_way_out(settings)}"
            )
        pixels = np.repeat(mask[..., None], 3, axis=-1)
        if silent and exists(place):
            _check_same(place, pixels)
            saved = place
        else:
            saved = save_picture(pixels, place, synthetic=False)
        shown = f"{path} -> {saved} ({_how(settings)}, {share:.1%} of the picture)"
        console.say(str(saved) if silent else shown)


def _place(path: Path, out: str | None) -> Path:
    return (
        path.with_name(f"{path.stem}{MASK_ENDING}.png") if out in (None, PATH_ONLY) else Path(out)
    )


def _check(place: Path, *, may_be_there: bool) -> None:
    """Check that a file can be written, and that nothing would be lost.

    Args:
        place: The file.
        may_be_there: Whether one of an earlier run will do, if it is the same.
    """
    if exists(place):
        if may_be_there:
            return
        raise UserError(
            f"{place} already exists; masks are never replaced; move it away, or give another --out"
        )
    if fault := file_writing_fault(place):
        raise UserError(f"{place} {fault}; give a file that can be written with --out")


def _check_same(place: Path, pixels: np.ndarray) -> None:
    """Check that a file of an earlier run holds a mask: the same command may be given again."""
    if not np.array_equal(np.asarray(load_image(place)), pixels):
        raise UserError(
            f"{place} already exists and holds another mask; masks are never replaced; move it "
            "away, or give another --out"
        )


def _how(settings: MaskProgramSettings) -> str:
    """Say what made the mask."""
    if settings.kind not in ("subject", "background"):
        return settings.kind
    return (
        f"{settings.kind} by {'GrabCut' if settings.model is None else Path(settings.model).name}"
    )


def _way_out(settings: MaskProgramSettings) -> str:
    return {
        "colour": "raise --tolerance, or give another --colour",
        "words": "lower --threshold, or use other --words",
    }.get(settings.kind, "give a --box around the thing")
