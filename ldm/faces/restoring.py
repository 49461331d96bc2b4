"""Redraw the faces of a picture.

picture -> detector -> each face: aligned -> redrawn -> put back with a soft edge
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ldm.faces.aligned import cut_out, put_back
from ldm.faces.detecting import Detector
from ldm.faces.restorer import FaceRestorer


@dataclass(frozen=True)
class FaceProgress:
    """How far a picture has come.

    Attributes:
        done: Faces that are finished.
        total: All faces that were found.
    """

    done: int
    total: int


FaceObserver = Callable[[FaceProgress], None]
"""Called when faces have been found and after each; what it raises ends the work."""


def restore_faces(
    pixels: np.ndarray,
    restorer: FaceRestorer,
    detector: Detector,
    *,
    fidelity: float | None = None,
    observer: FaceObserver = lambda _: None,
) -> tuple[np.ndarray, int]:
    """Return a picture with its faces redrawn, and how many were found.

    Args:
        pixels: uint8 (H, W, 3), RGB; not modified.
        restorer: Redraws.
        detector: Finds.
        fidelity: As for ``FaceRestorer``.
        observer: Told of each face.

    Returns:
        The picture, and the number of its faces; where that is 0, ``pixels`` itself.
    """
    faces = detector(Image.fromarray(pixels))
    observer(FaceProgress(0, len(faces)))
    for number, face in enumerate(faces, start=1):
        placement = face.placement()
        redrawn = restorer(cut_out(pixels, placement), fidelity)
        pixels = put_back(pixels, redrawn, placement)
        observer(FaceProgress(number, len(faces)))
    return pixels, len(faces)
