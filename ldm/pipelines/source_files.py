"""The files that a picture was made from: named in its parameters, found again unchanged.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.budgets import QUOTED
from ldm.digests import file_hash, remembered_hash
from ldm.errors import UserError
from ldm.images.opening import PICTURE_ENDINGS
from ldm.legible import legible
from ldm.paths import ERRORS, file_fault, is_file, reason
from ldm.pipelines.models import ROOT, find
from ldm.settings.faces import CASCADE, FACE_DETECTOR, RESTORER
from ldm.settings.generation import GenerationSettings

if TYPE_CHECKING:  # it needs torch
    from ldm.pipelines.init_image import InitImage

# How AUTOMATIC1111 marks an inpainting: what of the picture is denoised.
INPAINTING = ("Inpaint area", "Whole picture", "Only masked")
OUTPAINT = "Outpaint"
WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
EDITED = "Source prompt"  # of edits, see ldm.settings.swap


@dataclass(frozen=True)
class SourceFile:
    """A file that pictures are made from, and the entries that record it.

    Attributes:
        name: The setting that names it.
        needed: Whether settings of a class need it.
        flag: That setting's flag.
        what: What it is called in messages.
        path_key: The entry with its path.
        hash_key: The entry with its SHA-256.
        endings: Of files of this kind, in lower case.
    """

    name: str
    needed: Callable[[type[GenerationSettings]], bool]
    flag: str
    what: str
    path_key: str
    hash_key: str
    endings: Collection[str] = PICTURE_ENDINGS


INIT_IMAGE = SourceFile(
    "init_img",
    lambda schema: schema.init == "required",
    "--init-img",
    "picture",
    "Init image",
    "Init image hash",
)
MASK = SourceFile(
    "mask",
    lambda schema: schema.task == "mask",
    "--mask",
    "mask",
    "Mask",
    "Mask hash",
)

CONTROL = SourceFile(
    "control_tile",
    lambda schema: schema.task == "tiles",
    "--control_tile",
    "ControlNet",
    "Tile control",
    "Tile control hash",
    endings=WEIGHTS,
)
DECODER = SourceFile(
    "decoder",
    lambda schema: True,  # noqa: ARG005 - every program that draws may have one
    "--decoder",
    "decoder",
    "Decoder",
    "Decoder hash",
    endings=WEIGHTS,
)
FACES = SourceFile(
    "restore_faces",
    lambda schema: True,  # noqa: ARG005 - likewise
    "--restore_faces",
    "face restorer",
    RESTORER,
    f"{RESTORER} hash",
    endings=WEIGHTS,
)
DETECTOR = SourceFile(
    "face_detector",
    lambda schema: True,  # noqa: ARG005 - likewise
    "--face_detector",
    "face detector",
    "Face detector",
    "Face detector hash",
    endings=(".onnx",),
)
UNNAMED = CONTROL, DECODER, FACES, DETECTOR
"""Files that a picture was not made from where it does not name them."""


def find_sources(
    path: str,
    schema: type[GenerationSettings],
    entries: Mapping[str, str],
    given: Collection[str] = (),
) -> dict[str, str]:
    """Find the files that a picture was made from, and check that they have not changed.

    Args:
        path: The picture.
        schema: The settings to read into: they say which files there are.
        entries: What the picture's parameters say.
        given: Names of settings that the user overrides: their files need not be found.

    Returns:
        Paths by the settings' names.

    Raises:
        UserError: a file is missing or changed, or the picture does not name it.
    """
    wanted = [source for source in (INIT_IMAGE, MASK) if source.needed(schema)]
    if OUTPAINT in entries and MASK.path_key not in entries:  # what is around needs no mask
        wanted = [source for source in wanted if source is not MASK]
    named = [each for each in UNNAMED if each.path_key in entries]
    wanted += [each for each in named if each.needed(schema)]
    if schema.init == "optional":
        wanted += [INIT_IMAGE] if "Denoising strength" in entries else []
        wanted += [MASK] if MASK.path_key in entries else []
    return {
        source.name: _find_source(source, path, entries)
        for source in wanted
        if source.name not in given
    }


def image_entries(image: InitImage) -> dict[str, str]:
    """Return what records the picture that a run begins from, and its mask."""
    entries = {INIT_IMAGE.path_key: image.path, INIT_IMAGE.hash_key: image.sha256}
    entries = entries if image.path else {}
    if image.mask is None:
        return entries
    mask = image.mask
    named = {MASK.path_key: mask.path, MASK.hash_key: mask.sha256} if mask.path else {}
    area = INPAINTING[2] if image.laid and image.laid.is_area else INPAINTING[1]
    return {**entries, INPAINTING[0]: area, **named}


def decoder_entries(path: str) -> dict[str, str]:
    """Return what a picture records of the file of a tiny decoder, given it or its folder."""
    from ldm.shortcuts.decoder import decoder_file

    file = decoder_file(path)
    return {DECODER.path_key: str(file), DECODER.hash_key: remembered_hash(file)}


def detector_file(named: str | None) -> Path | None:
    """Return the detector's file; None is the cascade.

    Args:
        named: A file, or ``cascade``; None is the usual file if it is there, else the cascade.
    """
    if named == CASCADE:
        return None
    usual = find(FACE_DETECTOR) if named is None else find(named)
    return usual if named is not None or is_file(usual) else None


def face_entries(restorer: Path, detector: Path | None) -> dict[str, str]:
    """Return what a picture records of the files that its faces were redrawn with.

    Args:
        restorer: The network's.
        detector: The detector's; None is the cascade.
    """
    found = {FACES.path_key: _named(restorer), FACES.hash_key: remembered_hash(restorer)}
    if detector is None:
        return {**found, DETECTOR.path_key: CASCADE}
    return {
        **found,
        DETECTOR.path_key: _named(detector),
        DETECTOR.hash_key: remembered_hash(detector),
    }


def _named(path: Path) -> str:
    """Return a path as pictures name it: not where on this machine the project lies."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def _find_source(source: SourceFile, path: str, entries: Mapping[str, str]) -> str:
    recorded, flag = entries.get(source.path_key), source.flag
    if (source, recorded) == (DETECTOR, CASCADE):
        return CASCADE
    if recorded is None:
        raise UserError(
            f"--from-image {path} does not say what {source.what} it started from; expected its "
            f"'{source.path_key}'; add {flag} FILE"
        )
    shown = legible(recorded, QUOTED)
    places = _places(path, recorded, source.endings)
    faults = [file_fault(place) for place in places] or [f"is not named as a {source.what} is"]
    there = [place for place, fault in zip(places, faults, strict=False) if fault is None]
    if not there:
        raise UserError(
            f"--from-image {path} started from {shown}, which {faults[0]}; expected that file; "
            f"put it back or give it with {flag} FILE"
        )
    try:
        found = file_hash(there[0])
    except ERRORS as error:
        raise UserError(
            f"--from-image {path} started from {shown}, which cannot be read ({reason(error)}); "
            f"expected that file; give it with {flag} FILE"
        ) from error
    if found != entries.get(source.hash_key):
        expected = legible(str(entries.get(source.hash_key)), QUOTED)
        raise UserError(
            f"--from-image {path} started from {shown}, which has changed since; expected "
            f"SHA-256 {expected}; put the old file back or give one with {flag}"
        )
    return str(there[0])


def _places(path: str, recorded: str, endings: Collection[str]) -> list[Path]:
    """List where a recorded file may be: nowhere, unless it is named as files of its kind are.

    A stranger's picture may name any file. What is found is only compared with a hash, but a look
    into another computer's folder tells that computer who looks.
    """
    beside = Path(path).parent / Path(recorded).name
    if beside.suffix.lower() not in endings:
        return []
    elsewhere = recorded.startswith(("//", "\\\\"))
    return [beside] if elsewhere else [find(recorded), beside]
