"""Embed the reference's watermark with the least change: other programs read it all the same.

The package's own ``dwtDct`` moves every block of the picture to the middle of a band, and writes
two sub-bands back in each other's place, which shifts single pixels by up to 170 levels. Here a
block moves as a whole, by the least that gives it the right vote, and only as many blocks move
as each bit needs for its majority:

    peaks of the picture, and of what copying does to it -> the least shift of each block
    -> the cheapest blocks of each bit move -> read back from every copy
    -> bits that came out weakly get more blocks -> ...

Copies are what the picture has to survive: the file that is saved and, where the change stays
invisible, JPEG at quality 90 with and without chroma subsampling.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ldm.images.opening import redecoded
from ldm.safety.dwt_dct import (
    BAND,
    BLOCK,
    LEVELS_PER_LL,
    bits_of,
    grid_of,
    peaks,
    read_payload,
    shares_of_ones,
)
from ldm.safety.watermark import Copy, Method, Watermarker

INVISIBLE = 41.0  # dB of PSNR from which a change counts as invisible
CAP = 16  # levels that a channel of a pixel may change
_SAFE = 0.53  # of a bit's votes: still a majority after a slightly different JPEG encoder
_FIRST, _MORE, _ROUNDS = 0.5, 0.1, 8  # share of a bit's blocks to move, its growth, attempts
_EDGE = 0.25  # LL units: half of the smallest step
_NEAR = 0.3  # levels of U: less is rounding
_U = np.array([-0.147, -0.289, 0.436])  # U of R, G, B
_Y = np.array([0.299, 0.587, 0.114])
# Halfway between the smallest change of RGB for a change of U and the smallest that keeps Y, which
# costs 1 dB more, and which the eye sees less of.
_PURE = _U - (_U @ _Y) / (_Y @ _Y) * _Y
_COLOUR = (_U / (_U @ _U) + _PURE / (_PURE @ _U)) / 2


@dataclass(frozen=True)
class _Aim:
    """What an attempt tries to reach.

    Attributes:
        margin: How far inside its half of the band a peak has to be, in LL units.
        copies: What the watermark must be read from, besides the saved file.
        least: PSNR that the marked picture has to keep, in dB.
        cap: Levels that a channel of a pixel may change.
    """

    margin: float
    copies: tuple[Copy, ...] = ()
    least: float = INVISIBLE
    cap: int = CAP


def _jpeg(quality: int, subsampling: int) -> Copy:
    def copy(picture: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
        return np.asarray(redecoded(buffer.getvalue()))

    return copy


_FULL_CHROMA, _HALF_CHROMA = _jpeg(90, 0), _jpeg(90, 2)
# In order; the first that is reached is taken. The last ones are for large areas of a pure colour,
# where the least change of a block is a change of everything.
_AIMS = (
    _Aim(3, (_FULL_CHROMA, _HALF_CHROMA)),
    _Aim(2, (_FULL_CHROMA, _HALF_CHROMA)),
    _Aim(3, (_FULL_CHROMA,)),
    _Aim(2, (_FULL_CHROMA,)),
    _Aim(3),
    _Aim(2),
    _Aim(3, (_FULL_CHROMA,), least=0),
    _Aim(2, (_FULL_CHROMA,), least=0),
    _Aim(2, least=0),
    _Aim(4, least=0, cap=255),
)


class GentleWatermarker(Watermarker):
    """Embeds a text so that the eye does not see it, and checks that it can be read back."""

    def unavailable(self) -> None:
        """Return why pictures cannot be marked here: this needs no package, so never."""

    def apply(
        self,
        picture: np.ndarray,
        *,
        after_saving: Copy | None = None,
        part: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Method | None]:
        """Embed the text in a picture, as ``Watermarker.apply`` does, always by ``dwtDct``."""
        if not self.fits(*picture.shape[:2]):
            return picture.copy(), None
        if part is not None and _is_hopeless(picture, self.payload, part):
            return self.or_unmarked(None, picture), None
        saved = (after_saving,) if after_saving else ()
        attempts = (_Embedding(picture, self.payload, aim, saved, part) for aim in _AIMS)
        marked = next((m for m in (each.marked() for each in attempts) if m is not None), None)
        return self.or_unmarked(marked, picture), None if marked is None else "dwtDct"


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two uint8 pictures in dB; equal ones have inf."""
    error = np.mean((a.astype(float) - b) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else np.inf


class _Embedding:
    """One attempt on one picture."""

    def __init__(
        self,
        picture: np.ndarray,
        payload: bytes,
        aim: _Aim,
        saved: Sequence[Copy],
        part: np.ndarray | None,
    ) -> None:
        self.picture, self.payload, self.aim = picture, payload, aim
        self.copies: tuple[Copy, ...] = (lambda marked: marked, *saved, *aim.copies)
        self.grid = grid_of(*picture.shape[:2])
        self.bits = bits_of(payload)
        self.turn = np.arange(self.grid[0] * self.grid[1]) % len(self.bits)
        self.shifts = self._least_shifts()
        if part is not None:
            self.shifts[~_by_block(part, self.grid).all(axis=(1, 3)).ravel()] = np.inf
        self.ranks = _ranks(np.abs(self.shifts), self.turn)

    def marked(self) -> np.ndarray | None:
        """Return the picture with the text in every copy of it, or None."""
        count, share = np.bincount(self.turn), np.full(len(self.bits), _FIRST)
        for _ in range(_ROUNDS):
            moves = (self.ranks < np.ceil(share * count)[self.turn]) & np.isfinite(self.shifts)
            marked = self._move(np.where(moves, self.shifts, 0.0))
            if psnr(marked, self.picture) < self.aim.least:
                return None  # and further blocks would cost more
            ones = [shares_of_ones(copy(marked), len(self.bits)) for copy in self.copies]
            weak = (np.where(self.bits, ones, 1 - np.array(ones)) < _SAFE).any(axis=0)
            if not weak.any():
                return marked
            if (share[weak] >= 1).all():
                break
            share[weak] += _MORE
        read = {read_payload(copy(marked), len(self.payload)) for copy in self.copies}
        return marked if read == {self.payload} else None

    def _least_shifts(self) -> np.ndarray:
        """Return by how much each block has to move, in LL units; infinite if that is no use."""
        found = np.stack([peaks(copy(self.picture)) for copy in self.copies])
        low, high = found.min(axis=0), found.max(axis=0)
        # Copies differ about the peak: all that they say has to come to lie in the right half.
        margin = self.aim.margin + (high - low) / 2
        place = ((high + low) / 2 - np.where(self.bits[self.turn], BAND / 2, 0.0)) % BAND
        first, last = margin, BAND / 2 - margin
        up, down = (first - place) % BAND, (place - last) % BAND
        up = np.where(up > self._room(up=True), np.inf, up)
        down = np.where(down > self._room(up=False), np.inf, down)
        shifts = np.where(up < down, up, -down)
        shifts[(first <= place) & (place <= last)] = 0.0
        # A block that cannot go back may stay where it is: its vote is right, if barely.
        slack = margin - self.aim.margin + _EDGE
        right = (slack <= place) & (place <= BAND / 2 - slack)
        shifts[right & (np.abs(shifts) > margin)] = 0.0
        shifts[first > last] = np.inf
        return shifts

    def _room(self, *, up: bool) -> np.ndarray:
        """Return how far each block can move before its pixels are at their limits, in LL units."""
        pixels = self.picture.astype(float)
        room = np.where((_U > 0) == up, 255 - pixels, pixels)
        u = np.minimum(room, self.aim.cap) @ np.abs(_U)
        return _by_block(u, self.grid).mean(axis=(1, 3)).ravel() / LEVELS_PER_LL

    def _move(self, shifts: np.ndarray) -> np.ndarray:
        """Return the picture with its blocks moved by ``shifts``, (blocks,), in LL units."""
        change = np.kron(shifts.reshape(self.grid) * LEVELS_PER_LL, np.ones((BLOCK, BLOCK)))
        marked, moved = self.picture.copy(), change != 0
        area = marked[: change.shape[0], : change.shape[1]]
        area[moved] = _recolour(area[moved], change[moved], self.aim.cap)
        return marked


def _is_hopeless(picture: np.ndarray, payload: bytes, part: np.ndarray) -> bool:
    """Check whether some bit cannot win a majority, whichever blocks within ``part`` move.

    In a large picture with a small part every attempt would take seconds, and fail.
    """
    grid, bits = grid_of(*picture.shape[:2]), bits_of(payload)
    turn = np.arange(grid[0] * grid[1]) % len(bits)
    free = _by_block(part, grid).all(axis=(1, 3)).ravel()
    right = (peaks(picture) % BAND > BAND / 2) == bits[turn]
    most = np.bincount(turn, right | free, len(bits))
    return bool((most <= np.bincount(turn, minlength=len(bits)) / 2).any())


def _by_block(values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return values (H, W) as (rows, 8, columns, 8)."""
    rows, columns = grid
    return values[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)


def _ranks(cost: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Return the place of each block among those of its bit, the cheapest first, from 0."""
    count = np.bincount(turn)
    ranks = np.empty(len(cost), int)
    order = np.lexsort((cost, turn))
    ranks[order] = np.arange(len(cost)) - (np.cumsum(count) - count)[turn[order]]
    return ranks


def _recolour(pixels: np.ndarray, change: np.ndarray, cap: int) -> np.ndarray:
    """Change the U of pixels.

    Args:
        pixels: uint8 (N, 3), RGB; not modified.
        change: By how many levels, (N,).
        cap: What no channel may change by more than.

    Returns:
        uint8 (N, 3). What a channel at its limit cannot do, the others do, as far as they can.
    """
    pixels = pixels.astype(float)
    low, high = np.maximum(pixels - cap, 0), np.minimum(pixels + cap, 255)
    changed = np.rint(np.clip(pixels + change[:, None] * _COLOUR, low, high))
    for _ in range(2):
        missing = change - (changed - pixels) @ _U
        upwards = missing[:, None] * _U > 0
        free = _U * np.where(upwards, changed < high, changed > low)
        weight = (free**2).sum(axis=1)
        step = np.where((np.abs(missing) > _NEAR) & (weight > 0), missing, 0.0)
        step = (step / np.where(weight > 0, weight, 1.0))[:, None] * free
        changed = np.rint(np.clip(changed + step, low, high))
    return changed.astype(np.uint8)
