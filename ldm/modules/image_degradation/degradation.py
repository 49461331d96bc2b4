"""BSRGAN's degradation: turn a good picture into a small, blurred and noisy one.

K. Zhang et al., "Designing a Practical Degradation Model for Deep Blind Image Super-Resolution",
arXiv:2103.14006, section 3: blurs, resizing, noise and JPEG in random order. The light variant of
the latent diffusion models uses the same steps with the parameters in ``LIGHT``.

Shapes: pictures (H, W, 3), RGB, float32 in [0, 1] inside, uint8 outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ldm.modules.image_degradation.kernels import (
    blur,
    covariance,
    gaussian_kernel,
    shifted_kernel,
)
from ldm.modules.image_degradation.noise import add_gaussian_noise, add_jpeg_noise, to_uint8
from ldm.modules.image_degradation.resizing import resize
from ldm.rng import item_generator

RESIZINGS = ("linear", "cubic", "area")  # one is drawn each time
HALVING_P = 0.25  # that a 4x degradation first halves the picture, then does a 2x one
JPEG_P = 0.9  # of the JPEG among the shuffled steps; the final one always happens


@dataclass(frozen=True)
class Strength:
    """How strong each step is.

    Attributes:
        blurs: Number of blurs.
        turned_sizes: Kernel sides of the anisotropic blur, in pixels.
        round_sizes: Kernel sides of the isotropic blur, in pixels.
        width: Factor on the widths of both.
        resize_p: Probability of downsampling by resizing, not by a blur and every sf-th pixel.
        noise: Smallest and largest standard deviation of the noise, in 1/255.
        jpeg: Lowest and highest JPEG quality.
    """

    blurs: int
    turned_sizes: tuple[int, ...]
    round_sizes: tuple[int, ...]
    width: float
    resize_p: float
    noise: tuple[int, int]
    jpeg: tuple[int, int]


FULL = Strength(
    blurs=2,
    turned_sizes=tuple(range(7, 26, 2)),
    round_sizes=tuple(range(7, 26, 2)),
    width=1.0,
    resize_p=0.75,
    noise=(2, 25),
    jpeg=(30, 95),
)
LIGHT = Strength(
    blurs=1,
    turned_sizes=tuple(range(5, 15)),
    round_sizes=(5, 6, 7),
    width=0.25,
    resize_p=0.8,
    noise=(1, 2),
    jpeg=(80, 95),
)


def degradation_bsrgan_variant(
    image: np.ndarray,
    sf: int = 4,
    isp_model: None = None,  # noqa: ARG001 - kept for CompVis, which does not use it either
    *,
    strength: Strength = FULL,
    rng: np.random.Generator | None = None,
) -> dict[str, np.ndarray]:
    """Degrade a picture and make it ``sf`` times smaller.

    Args:
        image: uint8 (H, W, 3), RGB; not modified. Rows and columns beyond a multiple of ``sf`` are
            cropped.
        sf: Factor between the sizes.
        isp_model: Kept for CompVis.
        strength: How strong the steps are.
        rng: Source of all random choices; None makes one seeded from torch's global generator.

    Returns:
        {"image": uint8 (H // sf, W // sf, 3)}.
    """
    rng = item_generator() if rng is None else rng
    height, width = (side - side % sf for side in image.shape[:2])
    picture = image[:height, :width].astype(np.float32) / 255
    small = (height // sf, width // sf)
    if sf == 4 and rng.random() < HALVING_P:
        picture, sf = _halve(picture, rng), 2
    for step in _steps(sf, small, strength, rng):
        picture = step(picture)
    return {"image": to_uint8(add_jpeg_noise(picture, strength.jpeg, rng))}


def _steps(
    sf: int, small: tuple[int, int], strength: Strength, rng: np.random.Generator
) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Return the steps in random order, except that the final resize comes after the other one."""
    resizes = [
        lambda x: _downsample(x, sf, strength, rng),
        lambda x: np.clip(resize(x, small, rng.choice(RESIZINGS)), 0, 1),
    ]
    others = [lambda x: _random_blur(x, sf, strength, rng)] * strength.blurs
    others += [
        lambda x: add_gaussian_noise(x, strength.noise, rng),
        lambda x: add_jpeg_noise(x, strength.jpeg, rng) if rng.random() < JPEG_P else x,
    ]
    steps = [*others, *resizes]
    order = rng.permutation(len(steps)).tolist()
    first, second = sorted(order.index(len(others) + k) for k in (0, 1))
    order[first], order[second] = len(others), len(others) + 1
    return [steps[k] for k in order]


def _halve(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    half = (picture.shape[0] // 2, picture.shape[1] // 2)
    method = rng.choice(RESIZINGS) if rng.random() < 0.5 else "matlab"
    return np.clip(resize(picture, half, method), 0, 1)


def _random_blur(
    picture: np.ndarray, sf: int, strength: Strength, rng: np.random.Generator
) -> np.ndarray:
    """Blur with a Gaussian, isotropic or anisotropic with equal probability.

    The anisotropic variances are at most 4 + sf, the isotropic standard deviation at most
    2 + 0.2 sf, in pixels.
    """
    if rng.random() < 0.5:
        variances = strength.width * (4 + sf) * rng.random(2)
        shape = covariance(tuple(variances), rng.random() * np.pi)
        return blur(picture, gaussian_kernel(int(rng.choice(strength.turned_sizes)), shape))
    std = strength.width * (2 + 0.2 * sf) * rng.random()
    size = int(rng.choice(strength.round_sizes))
    return blur(picture, gaussian_kernel(size, covariance((std**2, std**2), 0.0)))


def _downsample(
    picture: np.ndarray, sf: int, strength: Strength, rng: np.random.Generator
) -> np.ndarray:
    """Resize to 1 to 1 / (2 ``sf``) of the size, or blur and take every ``sf``-th pixel."""
    if rng.random() < strength.resize_p:
        factor = rng.uniform(1, 2 * sf)
        size = (int(picture.shape[0] / factor), int(picture.shape[1] / factor))
        return np.clip(resize(picture, size, rng.choice(RESIZINGS)), 0, 1)
    std = rng.uniform(0.1, 0.6 * sf)
    kernel = gaussian_kernel(25, covariance((std**2, std**2), 0.0))
    return np.clip(blur(picture, shifted_kernel(kernel, sf))[::sf, ::sf], 0, 1)
