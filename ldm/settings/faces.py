"""What can be chosen about redrawing faces. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ldm.settings.conventions import Conventions
from ldm.settings.option import (
    REQUIRED,
    Settings,
    changed,
    device_option,
    max_pixels_option,
    option,
)

FACE_DETECTOR = "models/faces/face_detection_yunet_2023mar.onnx"
RESTORATION, RESTORER = "Face restoration", "Face restorer"
"""Pictures' entries: the architecture, as AUTOMATIC1111 names it; the file, which is ours."""
CASCADE = "cascade"
"""In place of a detector's file: what scikit-image ships."""


def _fidelity(**rest: Any) -> Any:
    return option(
        None,
        "how close redrawn faces stay to what is there: 0 takes all that the network adds, 1 the "
        "least; CodeFormer's own weight, and for the others the share of what is there",
        float,
        minimum=0.0,
        maximum=1.0,
        shown="0.5 with CodeFormer, else 0",
        **rest,
    )


def _detector(**rest: Any) -> Any:
    return option(
        None,
        f"what finds faces: YuNet's ONNX file, or {CASCADE}, which comes with scikit-image and "
        "finds faces that look at the camera",
        str,
        metavar="FILE",
        shown=f"{FACE_DETECTOR} if it is there, else {CASCADE}",
        **rest,
    )


@dataclass(frozen=True, kw_only=True)
class FaceSettings(Conventions):
    """Of programs that draw: whether faces in the pictures are redrawn, and how."""

    restore_faces: str | None = option(
        None,
        "redraw the faces of each picture by a network: the file of GFPGAN, RestoreFormer or "
        "CodeFormer, or its name in models/faces; see docs/faces.md",
        str,
        metavar="FILE",
        group="output",
    )
    face_fidelity: float | None = _fidelity(infotext="Face fidelity", group="output")
    face_detector: str | None = _detector(group="output")


def notices_on_faces(settings: FaceSettings) -> list[str]:
    """List what has no effect, one sentence each."""
    if settings.restore_faces is not None:
        return []
    given = {
        "--face_fidelity": settings.face_fidelity,
        "--face_detector": settings.face_detector,
    }
    return [
        f"{flag} {value} has no effect without --restore_faces"
        for flag, value in given.items()
        if value is not None
    ]


@dataclass(frozen=True, kw_only=True)
class RestoreFacesSettings(Settings):
    """Settings of ``scripts/restore_faces.py``."""

    program: ClassVar[str] = "restore_faces"
    groups: ClassVar[Mapping[str, str]] = {
        "files": "what is read and written",
        "model": "the network",
    }

    images: tuple[str, ...] = option(
        REQUIRED,
        "the pictures",
        str,
        positional=True,
        several="+",
        group="files",
        metavar="FILE",
    )
    max_pixels: int = max_pixels_option(group="files")
    outdir: str = option(
        "outputs/restored-faces",
        "the folder that the results go to",
        group="files",
        metavar="FOLDER",
    )
    model: str = changed(
        FaceSettings,
        "restore_faces",
        default=REQUIRED,
        help="what redraws faces: the file of GFPGAN, RestoreFormer or CodeFormer, or its name in "
        "models/faces",
        group="model",
    )
    fidelity: float | None = _fidelity(group="model")
    detector: str | None = _detector(group="model")
    device: str = device_option()
