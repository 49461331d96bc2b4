"""Make pictures larger by a network for pictures: what ``scripts/upscale.py --model`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ldm.images.carried import Carried
from ldm.images.io import lost_as_rgb, open_image, save_numbered, upright_eight_bit
from ldm.images.opening import unused_of
from ldm.images.pixels import named
from ldm.pipelines.networks import UPSCALERS, find_network
from ldm.pipelines.progress import Notice, Progress
from ldm.programs.console import Console
from ldm.programs.naming import numbered_after
from ldm.programs.output import OutputFolder
from ldm.settings.upscale import UpscaleProgramSettings

if TYPE_CHECKING:  # it needs torch
    from ldm.upscalers.enlarge import TileProgress
    from ldm.upscalers.upscaler import Upscaler


def enlarge(console: Console, settings: UpscaleProgramSettings) -> None:
    """Make every picture larger and write it.

    Raises:
        UserError: A picture or the network cannot be read, or memory ran out.
    """
    pictures = {Path(path): open_image(path) for path in settings.init_img}
    OutputFolder(settings.outdir).check()
    path = find_network(UPSCALERS, settings.model)

    from ldm.pipelines.pipeline import resolve_device  # these import torch
    from ldm.upscalers.upscaler import load_upscaler

    upscaler = load_upscaler(path, resolve_device(settings.device))
    console.say(f"{upscaler.summary()} on {upscaler.device}.")
    for text in _notices(upscaler, settings):
        console.observe(text)
    console.unit = "tile"
    for path, picture in pictures.items():
        _enlarge_one(console, settings, upscaler, path, picture)


def _notices(upscaler: Upscaler, settings: UpscaleProgramSettings) -> list[Notice]:
    """List what is not done as asked, or may not look as expected."""
    found = []
    if unused := settings.unused:
        found.append(Notice(f"{', '.join(unused)}: no effect with --model", warning=True))
    if upscaler.tiles_itself and settings.tile:
        text = f"--tile {settings.tile} has no effect: {upscaler.architecture} cuts pictures itself"
        found.append(Notice(text, warning=True))
    if upscaler.scale == 1 and settings.factor not in (None, 1.0):
        text = f"{upscaler.name} restores and does not enlarge: Lanczos alone does that"
        found.append(Notice(text, warning=True))
    return found


def _enlarge_one(
    console: Console,
    settings: UpscaleProgramSettings,
    upscaler: Upscaler,
    path: Path,
    picture: Image.Image,
) -> None:
    """Make a picture larger and write it, with all that its file says."""
    from ldm.pipelines.phases import memory_for
    from ldm.pipelines.postprocess import Watermark, telling
    from ldm.upscalers.enlarge import upscale

    for text in unused_of(path, None if picture.has_transparency_data else lost_as_rgb(picture)):
        console.warn(text)
    tile, overlap = settings.tiling
    what = f"{path} and its enlargement"
    with (
        named(f"image {path}:"),
        memory_for(what, upscaler.device, "give a smaller --tile or --factor"),
    ):
        upright = upright_eight_bit(picture)
        made = upscale(
            upright,
            upscaler,
            factor=settings.factor,
            tile=tile,
            overlap=overlap,
            observer=_shown(console, upscaler, upright, tile),
        )
    console.close()
    saved, _ = save_enlarged(
        made,
        Carried.of(picture, str(path)),
        {"by": made.width / upright.width, "upscaler": upscaler.name},
        telling(Watermark.of(settings.watermark), console.observe),
        Path(settings.outdir, f"{numbered_after(path)}.png"),
    )
    size = f"{made.width}x{made.height}"
    console.say(f"{path} ({upright.width}x{upright.height}) -> {saved} ({size})")


def save_enlarged(
    made: Image.Image,
    carried: Carried,
    how: Mapping[str, Any],
    mark: Callable[[np.ndarray], np.ndarray] | None,
    place: Path,
) -> tuple[Path, str]:
    """Write a picture that was made larger, with all that the file of the smaller one says.

    Args:
        made: RGB or RGBA.
        carried: What that file says.
        how: ``by`` what factor, and the name of the ``upscaler``: a recipe gets AUTOMATIC1111's
            entries of them.
        mark: Puts the watermark on uint8 (H, W, 3); None leaves it out.
        place: Folder and pattern, as for ``save_numbered``.

    Returns:
        The file, and its recipe; empty if it has none.

    Raises:
        UserError: It cannot be written.
    """
    pixels = np.array(made)
    if mark is not None:
        pixels[..., :3] = mark(np.ascontiguousarray(pixels[..., :3]))
    entries = {
        "Postprocess upscale by": f"{how['by']:.6g}",
        "Postprocess upscaler": how["upscaler"],
    }
    recipe = carried.with_entries(entries)
    said = carried.png_options(recipe)
    saved, _ = save_numbered(pixels, place.parent, place.name, said=said)
    return saved, recipe or ""


def _shown(
    console: Console, upscaler: Upscaler, picture: Image.Image, tile: int
) -> Callable[[TileProgress], None]:
    """Return an observer that shows tiles, and says if they become smaller, or may differ."""
    told = {tile}

    def show(progress: TileProgress) -> None:
        if upscaler.looks_far and progress.total > 1:
            console.warn(
                f"{upscaler.architecture} looks at more than a tile: tiles may differ a little in "
                "tone; a larger --tile, or 0, gives what one look at the whole picture does"
            )
        if progress.tile not in told and 0 < progress.tile < (tile or max(picture.size)):
            told.add(progress.tile)
            console.close()
            console.warn(f"memory ran out: the tiles are {progress.tile} pixels now")
        console.observe(Progress(progress.done, progress.total, 0, 1))

    return show
