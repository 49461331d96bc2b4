"""Where a face is, and the turn, scale and shift that bring it to where networks expect it.

Points are (x, y) in pixels; the centre of the first pixel is (0, 0). "Left" is the picture's left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIDE = 512
"""Of the aligned pictures that GFPGAN, RestoreFormer and CodeFormer are trained on, in pixels."""
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
"""Eyes, nose and corners of the mouth, left before right: the means of FFHQ's faces at 512."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face that was found.

    Attributes:
        box: Left, top, width and height.
        points: (2, 2), the eyes, or (5, 2), in the order of ``TEMPLATE``.
        score: How sure the detector is; on no common scale.
    """

    box: tuple[float, float, float, float]
    points: np.ndarray
    score: float

    @property
    def size(self) -> float:
        """The box's longer side."""
        return max(self.box[2:])

    def placement(self) -> np.ndarray:
        """Return the matrix (2, 3) that takes points of the picture to the aligned picture."""
        return similarity(self.points, TEMPLATE[: len(self.points)])


def similarity(given: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the matrix (2, 3) of the turn, scale and shift that best takes points to others.

    Least squares. With points as complex numbers it is z -> a z + b, of which the best a is a
    quotient of two sums.

    Args:
        given, wanted: (N, 2), N 2 or more, not all of ``given`` the same.

    Example:
        >>> similarity(np.array([[0, 0], [1, 0]]), np.array([[5, 5], [5, 7]])).round(6) + 0.0
        array([[ 0., -2.,  5.],
               [ 2.,  0.,  5.]])
    """
    z, w = (np.asarray(points, np.float64) @ np.array([1, 1j]) for points in (given, wanted))
    from_mean = z - z.mean()
    a = (from_mean.conj() @ (w - w.mean())) / (np.abs(from_mean) ** 2).sum()
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def scale_of(placement: np.ndarray) -> float:
    """Return by how much a placement enlarges."""
    return float(np.hypot(*placement[:, 0]))
