"""Where invisible-watermark's method ``dwtDct`` keeps its bits, and how they are read, in numpy.

    RGB -> U of YUV (H, W) -> Haar LL, one value per 2x2 pixels -> blocks of 4x4 values
        -> the peak of each block -> one vote per block -> the majority of each bit's votes

A block covers 8x8 pixels. Its peak is its largest LL value, the first one left out, and votes for 1
if it lies in the upper half of a band of 36. Blocks serve the bits in turn. In spite of the
method's name there is no cosine transform. Votes are to the last bit those of the package
0.2.0 with OpenCV 4 and 5, which rounds as ``chroma`` does.
"""

from __future__ import annotations

import numpy as np

BAND = 36.0  # LL units: twice the levels of U
BLOCK = 8  # pixels
SMALLEST_AREA = 256 * 256  # pixels; the package refuses less
LEVELS_PER_LL = 0.5  # levels of U for each unit of LL, where four pixels move together
# OpenCV's fixed-point weights, of 2 ** 14: luma of R, G, B, and U of B - Y.
_LUMA, _CHROMA, _SHIFT = (4899, 9617, 1868), 8061, 14
_HALF = 1 << (_SHIFT - 1)
_HAAR = 0.7071067811865476


def bits_of(payload: bytes) -> np.ndarray:
    """Return bytes as bool (n,), the highest bit of each first."""
    return np.unpackbits(np.frombuffer(payload, np.uint8)).astype(bool)


def fits(height: int, width: int, length: int) -> bool:
    """Check whether a picture of this size in pixels has room for ``length`` bytes."""
    rows, columns = grid_of(height, width)
    return height * width >= SMALLEST_AREA and rows * columns >= 8 * length


def chroma(picture: np.ndarray) -> np.ndarray:
    """Return U, int32 (H, W) in 0..255, of a picture, uint8 (H, W, 3), RGB."""
    red, green, blue = np.moveaxis(picture.astype(np.int32), -1, 0)
    luma = (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2] + _HALF) >> _SHIFT
    shifted = (blue - luma) * _CHROMA + (128 << _SHIFT) + _HALF
    return np.clip(shifted >> _SHIFT, 0, 255)


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of blocks in a picture of this size in pixels."""
    return height // BLOCK, width // BLOCK


def peaks(picture: np.ndarray) -> np.ndarray:
    """Return each block's peak, (blocks,), row by row; uint8 (H, W, 3) is not modified."""
    rows, columns = grid_of(*picture.shape[:2])
    u = chroma(picture[: rows * BLOCK, : columns * BLOCK]).astype(float)
    # Rows before columns, and in this order: at a band's edge the last bit decides.
    u = u[1::2] * _HAAR + u[0::2] * _HAAR
    ll = u[:, 1::2] * _HAAR + u[:, 0::2] * _HAAR
    blocks = ll.reshape(rows, 4, columns, 4).swapaxes(1, 2).reshape(rows * columns, 16)
    return blocks[:, 1:].max(axis=1, initial=0.0)


def shares_of_ones(picture: np.ndarray, bits: int) -> np.ndarray:
    """Return which share of its blocks votes 1, (bits,) in 0..1, for each bit.

    The picture needs at least one block for each bit.
    """
    votes = peaks(picture) % BAND > BAND / 2
    turn = np.arange(len(votes)) % bits
    return np.bincount(turn, votes, bits) / np.bincount(turn, minlength=bits)


def read_payload(picture: np.ndarray, length: int) -> bytes:
    """Read ``length`` bytes from a picture, uint8 (H, W, 3), RGB; any picture has some."""
    # The package's threshold: half of the votes are a 1.
    return np.packbits(shares_of_ones(picture, 8 * length) * 255 > 127).tobytes()
