"""Networks that enlarge pictures or redraw faces: by path, or by name on their shelf.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import MISSING, at_home, exists, file_fault, is_folder, unreachable
from ldm.pipelines.adapter_files import WEIGHTS, Shelf, find_adapter
from ldm.pipelines.models import find
from ldm.pipelines.source_files import detector_file
from ldm.settings.generation import LARGEST_SIDE, GenerationSettings, Txt2ImgSettings

if TYPE_CHECKING:
    from ldm.pipelines.models import ModelChoice

UPSCALERS = Shelf("upscaler", "--model", "models/upscalers", WEIGHTS)
HIRES_UPSCALERS = replace(UPSCALERS, flag="--hires_upscaler")
TILE_UPSCALERS = replace(UPSCALERS, flag="--upscaler")
FACE_RESTORERS = Shelf("face restorer", "--restore_faces", "models/faces", WEIGHTS)


def find_network(shelf: Shelf, named: str) -> Path:
    """Return the file that a flag names: at its path, or by its name on the shelf.

    Raises:
        UserError: There is none, or several, or no file can be there.
    """
    fault = unreachable(named)
    if fault not in (None, MISSING):
        raise UserError(
            f"{shelf.flag} {quoted(named)} {fault}; expected the file of {shelf.one}, or its "
            f"name in {shelf.folder}; check it"
        )
    return find_adapter(shelf, named)


def find_restorer(named: str) -> Path:
    """Return the file that ``--restore_faces`` names: at its path, here or below the project's
    folder, or by its name in models/faces.

    Raises:
        UserError: There is none, or several, or no file can be there.
    """
    found = find(named)
    return found if exists(found) else find_network(FACE_RESTORERS, named)


def check_networks(settings: GenerationSettings, choice: ModelChoice) -> None:
    """Check a second walk, and that what enlarges, decodes, finds and redraws faces is there.

    Args:
        settings: The run's, complete.
        choice: The model that draws.

    Raises:
        UserError: The result is too large, the model has fewer steps, or a network is not there.
    """
    if getattr(settings, "hires", None) is not None:
        _check_second_walk(settings, choice)
    for name, shelf in (("hires_network", HIRES_UPSCALERS), ("network", TILE_UPSCALERS)):
        if (named := getattr(settings, name, None)) is not None:
            _check_file(shelf, named, find_network(shelf, named))
    if settings.decoder is not None:
        _check_decoder(settings.decoder)
    if (named := getattr(settings, "restore_faces", None)) is not None:
        _check_file(FACE_RESTORERS, named, find_restorer(named))
        from ldm.faces.detecting import check_file

        if (detector := detector_file(settings.face_detector)) is not None:
            check_file(detector)


def _check_decoder(named: str) -> None:
    place = at_home(named)
    if not is_folder(place) and (fault := file_fault(place)):
        raise UserError(
            f"--decoder {quoted(named)} {fault}; expected the file of a tiny decoder, such as "
            "taesd_decoder.safetensors, or diffusers' folder of one; check the path"
        )


def _check_file(shelf: Shelf, named: str, found: Path) -> None:
    if fault := file_fault(found):
        raise UserError(
            f"{shelf.flag} {quoted(named)} {fault}; expected the file of {shelf.one}, or its name "
            f"in {shelf.folder}; check it"
        )


def _check_second_walk(settings: Txt2ImgSettings, choice: ModelChoice) -> None:
    height, width = settings.final_size((settings.H, settings.W), choice.multiple)
    if max(height, width) > LARGEST_SIDE or height * width > settings.max_pixels:
        raise UserError(
            f"--hires {settings.hires:g} makes the pictures {width}x{height}; expected at most "
            f"{settings.max_pixels / 1e6:.4g} megapixels and sides of {LARGEST_SIDE}; give less, "
            "or raise --max_pixels"
        )
    if (settings.hires_steps or 0) > choice.timesteps:
        raise UserError(
            f"--hires_steps {settings.hires_steps} was given; the model has {choice.timesteps} "
            f"steps; give {choice.timesteps} or fewer"
        )
