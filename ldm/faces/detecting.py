"""Find faces: by YuNet where its file is given, else by the cascade that scikit-image ships.

YuNet's file tells five points of each face. The cascade is OpenCV's, of local binary patterns, for
faces that look at the camera; it tells a box, in which the eyes are then looked for. OpenCV's own
reader of cascades is no longer in every OpenCV, so scikit-image reads it: the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm.errors import UserError, in_words
from ldm.faces.eyes import eyes_in
from ldm.faces.placing import Face
from ldm.paths import file_fault

SMALLEST = 24
"""Pixels. Smaller faces hold nothing to restore; 24 is also the window of the cascade."""
LOOKED_AT = 800
"""The longer side of the picture as detectors see it, in pixels."""
SURE = 0.8
"""Of YuNet's score from 0 to 1."""
_ALIKE = 0.35  # overlap of boxes of one face
_VOTES = 26  # of the windows close to a face, which most faces get 30 of and few patterns 10
_CLOSE = 72  # pixels: the side that a face and what is around it are brought to for them
_AROUND = 0.3  # of the box's side: what is around it
_GET = "run: python scripts/download_models.py yunet"
Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""
Detector = Callable[[Image.Image], list[Face]]
"""Finds the faces of an RGB picture, the largest first."""


def detector_of(path: str | Path | None = None) -> Detector:
    """Return what finds faces.

    Args:
        path: YuNet's ONNX file; None takes the cascade.

    Raises:
        UserError: The file cannot be used, or a package is not installed.
    """
    return cascade() if path is None else yunet(path)


def check_file(path: str | Path) -> None:
    """Check that there is a file; what it holds is seen when it is read.

    Raises:
        UserError: There is none.
    """
    if fault := file_fault(path):
        raise UserError(
            f"the face detector {path} {fault}; expected YuNet's ONNX file, or cascade; {_GET}"
        )


def yunet(path: str | Path) -> Detector:
    """Return YuNet as a detector, run by OpenCV.

    Args:
        path: Its ONNX file, such as ``face_detection_yunet_2023mar.onnx``.

    Raises:
        UserError: There is no such file, or OpenCV cannot use it.
    """
    check_file(path)
    import cv2

    try:
        with _quiet(cv2):
            found_by = cv2.FaceDetectorYN.create(str(path), "", (320, 320), SURE)
        found_by.detect(np.zeros((320, 320, 3), np.uint8))  # other networks fail only here
    except (cv2.error, AttributeError, TypeError) as error:
        raise UserError(
            f"OpenCV {cv2.__version__} finds no faces with {path} ({in_words(error)}); expected "
            f"YuNet's ONNX file; {_GET}"
        ) from error

    def detect(small: Image.Image) -> list[Face]:
        found_by.setInputSize(small.size)
        _, rows = found_by.detect(np.ascontiguousarray(np.asarray(small)[..., ::-1]))  # BGR
        rows = () if rows is None else rows.astype(np.float64)
        return [_of_row(row) for row in rows if _is_face(row, max(small.size))]

    return partial(_found, detect)


def _is_face(row: np.ndarray, longest: int) -> bool:
    """Check that a row tells a face that a picture can have, not what a damaged file computes."""
    if not np.isfinite(row).all():
        return False
    apart = np.ptp(row[4:14].reshape(5, 2), axis=0).max()
    return bool(1.0 < apart <= longest and np.abs(row[:14]).max() <= 2 * longest)


@contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """Keep OpenCV 5 from warning of its own defaults, in its own words, on standard error."""
    log = cv2.utils.logging
    before = log.setLogLevel(log.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        log.setLogLevel(before)


def _of_row(row: np.ndarray) -> Face:
    """Return the face that a row (15,) of OpenCV's tells: box, five points, score.

    OpenCV's order begins with the person's right eye, which is at the picture's left.
    """
    return Face(tuple(row[:4].tolist()), row[4:14].reshape(5, 2), float(row[14]))


def cascade() -> Detector:
    """Return the cascade of scikit-image as a detector.

    Raises:
        UserError: The package is not installed.
    """
    read = _read_cascade()

    def detect(small: Image.Image) -> list[Face]:
        grey = small.convert("L")
        boxes = _windows(read, grey, step=1.15, sides=(SMALLEST, max(small.size)), votes=3)
        return [_of_box(grey, box) for box in boxes if _is_sure(read, grey, box)]

    return partial(_found, detect)


def _windows(
    read: Any, grey: Image.Image, *, step: float, sides: tuple[int, int], votes: int
) -> list[Box]:
    """Return the boxes of faces that at least ``votes`` overlapping windows agree on.

    Args:
        read: The cascade.
        grey: Of mode L.
        step: By which factor windows grow.
        sides: Of the smallest and the largest, in pixels.
        votes: How many must agree.
    """
    found = read.detect_multi_scale(
        np.asarray(grey),
        scale_factor=step,
        step_ratio=1.0,
        min_size=(sides[0], sides[0]),
        max_size=(sides[1], sides[1]),
        min_neighbor_number=votes,
        intersection_score_threshold=_ALIKE,
    )
    return [(each["c"], each["r"], each["width"], each["height"]) for each in found]


def _is_sure(read: Any, grey: Image.Image, box: Box) -> bool:
    """Check a box by many windows close to it, upright or a little turned.

    In a whole picture few windows fall on a small face, and as few on a chance pattern; here their
    number does not depend on the face's size.
    """
    left, top, width, height = box
    margin = round(_AROUND * width)
    area = (left - margin, top - margin, left + width + margin, top + height + margin)
    part = grey.crop(area).resize((_CLOSE, _CLOSE), Image.Resampling.BILINEAR)
    turned = (part.rotate(angle, Image.Resampling.BILINEAR) for angle in (0, -12, 12, -24, 24))
    sides = (round(_CLOSE * 0.38), round(_CLOSE * 0.9))
    return any(_windows(read, each, step=1.05, sides=sides, votes=_VOTES) for each in turned)


@lru_cache(maxsize=1)
def _read_cascade() -> Any:
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ModuleNotFoundError as error:
        raise UserError(
            "finding faces without YuNet's file needs the package scikit-image, which is not "
            'installed; run: pip install -e ".[repair]", or give YuNet\'s ONNX file as the face '
            "detector"
        ) from error
    return Cascade(lbp_frontal_face_cascade_filename())


def _of_box(grey: Image.Image, box: Box) -> Face:
    return Face(tuple(map(float, box)), eyes_in(grey, box), 1.0)


def _found(detect: Detector, picture: Image.Image) -> list[Face]:
    """Return the faces of a picture, looked for in a smaller one and none of them twice."""
    scale = min(1.0, LOOKED_AT / max(picture.size))
    small = picture.convert("RGB")
    if scale < 1.0:
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        small = small.resize(size, Image.Resampling.BOX)
    faces = [_enlarged(face, 1 / scale) for face in detect(small) if face.size >= SMALLEST]
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.size):
        if all(_overlap(face.box, other.box) < _ALIKE for other in kept):
            kept.append(face)
    return kept


def _enlarged(face: Face, factor: float) -> Face:
    """Return a face as it is in a picture ``factor`` times as large."""
    points = (face.points + 0.5) * factor - 0.5  # places count from pixels' centres
    return Face(tuple(side * factor for side in face.box), points, face.score)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return which part of the smaller of two boxes lies in the other one."""
    sides = [
        min(one[k] + one[k + 2], other[k] + other[k + 2]) - max(one[k], other[k]) for k in (0, 1)
    ]
    smaller = min(box[2] * box[3] for box in (one, other))
    return max(sides[0], 0.0) * max(sides[1], 0.0) / smaller if smaller > 0 else 0.0
