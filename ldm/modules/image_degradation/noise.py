"""Add sensor noise and JPEG artefacts to a picture.

Shapes: pictures (H, W, 3) float32 in [0, 1], RGB; not modified.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ldm.images.opening import redecoded


def add_gaussian_noise(
    picture: np.ndarray, levels: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Add white noise: independent per channel (0.4), equal in all (0.4), or correlated (0.2).

    Args:
        picture: (H, W, 3).
        levels: Smallest and largest standard deviation, in 1/255; an integer between them is drawn,
            and the largest bounds the correlated noise.
        rng: Source of the noise.
    """
    std = int(rng.integers(levels[0], levels[1] + 1)) / 255
    height, width = picture.shape[:2]
    kind = rng.random()
    if kind > 0.6:
        noise = rng.normal(0, std, (height, width, 3))
    elif kind < 0.4:
        noise = rng.normal(0, std, (height, width, 1))
    else:
        noise = _correlated_noise((height, width), levels[1] / 255, rng)
    return np.clip(picture + noise, 0, 1).astype(np.float32)


def _correlated_noise(
    shape: tuple[int, int], greatest: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw (H, W, 3) noise whose channels vary together, by a random covariance."""
    axes = np.linalg.svd(rng.random((3, 3)))[0]
    between = axes.T @ np.diag(rng.random(3)) @ axes
    # The reference takes absolute values, so that the result need not be a covariance exactly.
    covariance = np.abs(greatest**2 * between)
    return rng.multivariate_normal(np.zeros(3), covariance, shape, check_valid="ignore")


def add_jpeg_noise(
    picture: np.ndarray, qualities: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Save and reload a picture as JPEG with halved chroma, at a random quality (inclusive)."""
    quality = int(rng.integers(qualities[0], qualities[1] + 1))
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(picture)).save(buffer, "JPEG", quality=quality, subsampling=2)
    return np.asarray(redecoded(buffer.getvalue()), dtype=np.float32) / 255


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Round a picture in [0, 1] to 8 bits."""
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
