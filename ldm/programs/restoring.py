"""Redraw the faces of pictures: what ``scripts/restore_faces.py`` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ldm.images.carried import Carried
from ldm.images.io import copy_numbered, lost_as_rgb, open_image, save_numbered, upright_eight_bit
from ldm.images.opening import unused_of
from ldm.images.pixels import named
from ldm.paths import exists
from ldm.pipelines.models import find
from ldm.pipelines.networks import FACE_RESTORERS, find_network
from ldm.programs.console import Console
from ldm.programs.naming import numbered_after
from ldm.programs.output import OutputFolder
from ldm.settings.faces import RestoreFacesSettings

if TYPE_CHECKING:  # it needs torch
    from ldm.faces.restoring import FaceProgress
    from ldm.pipelines.facing import Faces


def restore(console: Console, settings: RestoreFacesSettings) -> None:
    """Redraw the faces of every picture and write it; those without a face are copied.

    Raises:
        UserError: A picture, the network or the detector cannot be read, or memory ran out.
    """
    for path in settings.images:
        open_image(path)  # before the network, which takes a while
    OutputFolder(settings.outdir).check()
    network = find(settings.model)
    if not exists(network):
        network = find_network(replace(FACE_RESTORERS, flag="--model"), settings.model)

    from ldm.pipelines.facing import Faces  # these import torch
    from ldm.pipelines.pipeline import resolve_device

    device = resolve_device(settings.device)
    faces = Faces.of(str(network), settings.detector, settings.fidelity, device)
    console.say(f"{faces.summary()} on {device}.")
    console.unit = "face"
    for path in map(Path, settings.images):
        _restore_one(console, settings, faces, path)


def _restore_one(
    console: Console, settings: RestoreFacesSettings, faces: Faces, path: Path
) -> None:
    """Redraw the faces of a picture and write it, with all that its file says."""
    from ldm.pipelines.phases import memory_for

    picture = open_image(path)
    with (
        named(f"image {path}:"),
        memory_for(f"{path} and its faces", faces.device, "make it smaller"),
    ):
        upright = upright_eight_bit(picture)
        pixels, found = faces.restored(
            np.asarray(upright.convert("RGB")), lambda progress: _show(console, progress)
        )
    console.close()
    name = numbered_after(path)
    if not found:
        saved = copy_numbered(path, settings.outdir, name)
        console.say(f"{path} -> {saved} (no face found: a copy)")
        return
    for text in unused_of(path, None if picture.has_transparency_data else lost_as_rgb(picture)):
        console.warn(text)
    carried = Carried.of(picture, str(path))
    said = carried.png_options(carried.with_entries(faces.entries))
    if upright.has_transparency_data:
        alpha = np.asarray(upright.convert("RGBA"))[..., 3:]
        pixels = np.concatenate([pixels, alpha], axis=-1)
    saved, _ = save_numbered(pixels, settings.outdir, f"{name}.png", said=said)
    console.say(f"{path} -> {saved} ({found} face{'s' * (found > 1)})")


def _show(console: Console, progress: FaceProgress) -> None:
    from ldm.pipelines.progress import Progress

    console.observe(Progress(progress.done, progress.total, 0, 1))
