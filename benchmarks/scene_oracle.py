"""See what is in a picture of a demo scene, without any model: analysis by synthesis.

The oracle estimates the background, then looks for the glyph, size and place that, drawn over it,
come nearest to the picture. It knows the emoji font and nothing of the prompt but whether one or
two objects are to be found.

Shapes: B pictures, T templates (a glyph at a size), K = side of the matching grid in pixels.
Pictures come in [-1, 1]; everything inside is in [0, 1].

For a picture I, background b, difference D = I - b, and a template with premultiplied colour c
and alpha a, drawing it changes the difference by Q = c - a b. The squared error that it saves at a
place,

    gain = sum w D^2 - sum w (D - Q)^2 = 2 sum w D Q - sum w Q^2,

is a sum of cross-correlations, taken with the FFT. The weights w leave out what an object found
earlier covers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ldm.data.demo.glyphs import glyph_shape
from ldm.data.demo.scene_layout import PAIR_EXTENT, Box
from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS, SIZES
from ldm.data.demo.styled import outlined_glyph, radius_of

# Glyphs are told apart at 30 pixels, so larger pictures are shrunk to this side: 16 times the
# pixels would cost 16 times the time and change no answer.
MATCH_SIDE = 64
# A model may draw an object a little smaller or larger than asked.
_TOLERANCE = (0.94, 1.0, 1.06)
_EXTENTS = {
    1: tuple(size.extent for size in SIZES.values()),
    2: (PAIR_EXTENT,),
}
# The gap between rider and mount is -0.04 of the side or less, of stacked objects above 0.
_RIDING_GAP = -0.01
# A rider and its mount share up to 0.42 of the smaller box.
_MOST_SHARED = 0.5


@dataclass(frozen=True)
class Finding:
    """An object that was found.

    Attributes:
        noun: key of ``NOUNS``.
        box: (left, top, right, bottom) as fractions of the side, with its outline.
        outlined: whether it has an outline; only an oracle that looks for outlines finds any.
    """

    noun: str
    box: Box
    outlined: bool = False

    @property
    def centre(self) -> tuple[float, float]:
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


@dataclass(frozen=True)
class Sight:
    """What was seen in a picture.

    Attributes:
        background: key of ``COLOURS``.
        found: as many objects as were looked for, most telling first.
        explained: which part of the picture's squared difference from its background the found
            objects account for; 1 is a perfect match, 0 none.
    """

    background: str
    found: tuple[Finding, ...]
    explained: float


def border_pixels(pictures: Tensor) -> Tensor:
    """Return the pixels of the outermost ring, 1/32 of the side wide: (B, 3, H, W) -> (B, 3, n)."""
    width = max(1, pictures.shape[-1] // 32)
    inner = torch.zeros(pictures.shape[-2:], dtype=torch.bool, device=pictures.device)
    inner[width:-width, width:-width] = True
    return pictures[..., ~inner]


def nearest_colours(pictures: Tensor) -> list[str]:
    """Name the background of pictures (B, 3, H, W) in [-1, 1] by the median of their border."""
    names = list(COLOURS)
    rgb = torch.tensor([COLOURS[name].rgb for name in names], dtype=torch.float32) / 255
    median = border_pixels(_to_unit(pictures)).median(dim=-1).values  # (B, 3)
    return [names[int(k)] for k in torch.cdist(median, rgb).argmin(dim=1)]


def _to_unit(pictures: Tensor) -> Tensor:
    return ((pictures.float().cpu() + 1) / 2).clamp(0, 1)


def _background_ramp(picture: Tensor) -> Tensor:
    """Estimate the background of a picture (3, K, K), which may shade from top to bottom.

    Medians of strips at the left and right edges ignore an object that reaches into them; a
    straight line through the upper and the lower third's rows ignores what is left of it.
    """
    side = picture.shape[-1]
    strip = max(1, side // 32)
    edges = torch.cat((picture[..., :strip], picture[..., -strip:]), dim=-1)
    rows = edges.median(dim=-1).values  # (3, K)
    third = side // 3
    upper, lower = rows[:, :third].median(dim=1).values, rows[:, -third:].median(dim=1).values
    # The thirds' medians stand at 1/6 and 5/6 of the height.
    place = (torch.arange(side) + 0.5) / side
    ramp = upper[:, None] + (lower - upper)[:, None] * ((place - 1 / 6) * 1.5)
    return ramp[..., None].expand(-1, -1, side)


@dataclass(frozen=True)
class _Template:
    noun: str
    emoji: str
    height: int
    width: int
    outline: int  # pixels, of which height and width have twice as many


class _Bank:
    """All glyphs at some sizes, as Fourier transforms of what the gain is made of."""

    def __init__(
        self, extents: Sequence[float], emojis: Mapping[str, str], outlines: Sequence[int]
    ):
        self.templates = _list_templates(extents, emojis, outlines)
        colour = torch.zeros(len(self.templates), 3, MATCH_SIDE, MATCH_SIDE)
        alpha = torch.zeros(len(self.templates), 1, MATCH_SIDE, MATCH_SIDE)
        for k, template in enumerate(self.templates):
            c, a = _draw(template)
            colour[k, :, : template.height, : template.width] = c
            alpha[k, :, : template.height, : template.width] = a
        # A correlation is a product with the conjugate; |Q|^2 = |c|^2 - 2 b.(c a) + |b|^2 a^2.
        self.colour = _transform(colour).conj_physical()  # (T, 3, K, K/2+1)
        self.alpha = _transform(alpha).conj_physical()  # (T, 1, K, K/2+1)
        self.colour_energy = _transform((colour**2).sum(1)).conj_physical()  # (T, K, K/2+1)
        self.cross_energy = _transform(colour * alpha).conj_physical()
        self.alpha_energy = _transform(alpha[:, 0] ** 2).conj_physical()
        self.outside = _outside(self.templates)  # (T, K, K)

    def against(self, background: Tensor) -> Tensor:
        """Return the kernels of the gain on a background (3,): 2 Q by channel and -|Q|^2.

        Returns:
            (T, 4, K, K/2+1) complex, conjugated.
        """
        b = background[:, None, None]
        kernels = torch.empty(len(self.templates), 4, *self.alpha.shape[-2:], dtype=torch.cfloat)
        kernels[:, :3] = 2 * (self.colour - b * self.alpha)
        kernels[:, 3] = 2 * (b * self.cross_energy).sum(1) - self.colour_energy
        kernels[:, 3] -= (background**2).sum() * self.alpha_energy
        return kernels

    def gains(self, kernels: Tensor, difference: Tensor, weight: Tensor) -> Tensor:
        """Return the squared error that each template saves at each place.

        Args:
            kernels: what :meth:`against` gives for the picture's background.
            difference: picture minus background, (3, K, K).
            weight: (K, K) of zeros and ones.

        Returns:
            (T, K, K), the place being the template's upper left corner; -inf where it would stand
            out of the picture.
        """
        shown = _transform(torch.cat((difference * weight, weight[None])))  # (4, K, K/2+1)
        spectrum = kernels[:, 0] * shown[0]
        for channel in (1, 2, 3):
            spectrum.addcmul_(kernels[:, channel], shown[channel])
        return torch.fft.irfft2(spectrum, s=(MATCH_SIDE, MATCH_SIDE)) + self.outside

    def overlaps(self, other: _Placement) -> Tensor:
        """Tell where templates would stand on one that is placed: (T, K, K) bool.

        Two boxes count as one place when they share more than half of the smaller one.
        """
        place = torch.arange(MATCH_SIDE).float()
        heights = torch.tensor([float(t.height) for t in self.templates])
        widths = torch.tensor([float(t.width) for t in self.templates])
        rows = _shared(place, heights, other.y, other.template.height)
        columns = _shared(place, widths, other.x, other.template.width)
        smaller = (heights * widths).clamp(max=other.template.height * other.template.width)
        return rows[:, :, None] * columns[:, None, :] > _MOST_SHARED * smaller[:, None, None]


def _shared(place: Tensor, lengths: Tensor, start: int, length: int) -> Tensor:
    """Length in pixels that intervals [place, place + length_t) share with another: (T, K)."""
    ends = place[None] + lengths[:, None]
    return (ends.clamp(max=start + length) - place[None].clamp(min=start)).clamp(min=0)


def _transform(x: Tensor) -> Tensor:
    return torch.fft.rfft2(x)


def _list_templates(
    extents: Sequence[float], emojis: Mapping[str, str], outlines: Sequence[int]
) -> list[_Template]:
    found = {}
    scales = [extent * factor * MATCH_SIDE for extent in extents for factor in _TOLERANCE]
    for (noun, emoji), outline, scale in product(emojis.items(), outlines, scales):
        height, width = (round(length * scale) + 2 * outline for length in glyph_shape(emoji))
        if max(height, width) <= MATCH_SIDE:
            found[_Template(noun, emoji, height, width, outline)] = None
    return list(found)


def _draw(template: _Template) -> tuple[Tensor, Tensor]:
    """Return premultiplied colour (3, h, w) and alpha (1, h, w) of a template."""
    colour, transparency = outlined_glyph(
        template.emoji, template.height, template.width, template.outline
    )
    return (
        torch.from_numpy(colour.copy()).permute(2, 0, 1),
        torch.from_numpy(1 - transparency).permute(2, 0, 1),
    )


def _outside(templates: Sequence[_Template]) -> Tensor:
    """0 where a template stands inside the picture, -inf elsewhere (where the FFT wraps around)."""
    place = np.arange(MATCH_SIDE)
    inside = np.stack(
        [
            (place[:, None] <= MATCH_SIDE - t.height) & (place[None] <= MATCH_SIDE - t.width)
            for t in templates
        ]
    )
    return torch.from_numpy(np.where(inside, 0, -np.inf).astype(np.float32))


@dataclass(frozen=True)
class _Placement:
    template: _Template
    x: int
    y: int

    @property
    def finding(self) -> Finding:
        left, top = self.x / MATCH_SIDE, self.y / MATCH_SIDE
        right = (self.x + self.template.width) / MATCH_SIDE
        bottom = (self.y + self.template.height) / MATCH_SIDE
        outlined = self.template.outline > 0
        return Finding(self.template.noun, (left, top, right, bottom), outlined)

    def layers(self) -> tuple[Tensor, Tensor]:
        """Return premultiplied colour (3, K, K) and alpha (K, K) of the whole picture's size."""
        colour = torch.zeros(3, MATCH_SIDE, MATCH_SIDE)
        alpha = torch.zeros(MATCH_SIDE, MATCH_SIDE)
        rows = slice(self.y, self.y + self.template.height)
        columns = slice(self.x, self.x + self.template.width)
        c, a = _draw(self.template)
        colour[:, rows, columns] = c
        alpha[rows, columns] = a[0]
        return colour, alpha


class SceneOracle:
    """Find the objects and the background of pictures.

    Args:
        **more: Things that it knows beside ``NOUNS``: a name and its emoji.
    """

    outlines: Sequence[int] = (0,)
    """Widths in pixels of the outlines that things may have."""

    def __init__(self, **more: str):
        self._emojis = {name: noun.emoji for name, noun in NOUNS.items()} | more
        self._banks: dict[int, _Bank] = {}

    def _bank(self, count: int) -> _Bank:
        if count not in self._banks:
            self._banks[count] = _Bank(_EXTENTS[count], self._emojis, self.outlines)
        return self._banks[count]

    @torch.inference_mode()
    def look(self, pictures: Tensor, count: Literal[1, 2]) -> list[Sight]:
        """See ``count`` objects in each picture.

        Args:
            pictures: (B, 3, H, W) in [-1, 1], square, H >= 64; not modified.
            count: how many objects to look for. A second one is looked for beside the first, in
                what that does not cover; then each again beside the other.
        """
        small = interpolate(_to_unit(pictures), size=(MATCH_SIDE, MATCH_SIDE), mode="area")
        backgrounds = nearest_colours(pictures)
        return [
            self._look_at(picture, background, count)
            for picture, background in zip(small, backgrounds, strict=True)
        ]

    def _look_at(self, picture: Tensor, background: str, count: int) -> Sight:
        ramp = _background_ramp(picture)
        difference = picture - ramp
        bank = self._bank(count)
        kernels = bank.against(ramp.mean(dim=(1, 2)))

        def best_beside(other: _Placement) -> _Placement:
            # All-or-nothing: half-covered edge pixels would draw the same glyph there again.
            weight = (other.layers()[1] < 0.05).float()
            gains = bank.gains(kernels, difference, weight)
            return _best(bank, gains.masked_fill(bank.overlaps(other), -torch.inf))

        everything = torch.ones(MATCH_SIDE, MATCH_SIDE)
        placements = [_best(bank, bank.gains(kernels, difference, everything))]
        if count == 2:
            placements.append(best_beside(placements[0]))
            # Seen alone, the first may have been stretched over both.
            placements[0] = best_beside(placements[1])
            placements[1] = best_beside(placements[0])
        explained = _explained(picture, ramp, placements)
        return Sight(background, tuple(p.finding for p in placements), explained)


class OutlineOracle(SceneOracle):
    """Find things that have an outline as ``ldm.data.demo.styled`` draws it, and plain ones."""

    outlines = (0, radius_of(MATCH_SIDE))


def _best(bank: _Bank, gains: Tensor) -> _Placement:
    k = int(gains.argmax())
    template, place = divmod(k, MATCH_SIDE * MATCH_SIDE)
    y, x = divmod(place, MATCH_SIDE)
    return _Placement(bank.templates[template], x, y)


def _explained(picture: Tensor, ramp: Tensor, placements: Sequence[_Placement]) -> float:
    """Return the part of the variation that the placements, drawn in the better order, explain."""
    unexplained = []
    for order in (placements, placements[::-1]):
        drawn = ramp
        for placement in order:
            colour, alpha = placement.layers()
            drawn = drawn * (1 - alpha) + colour
        unexplained.append(float(((picture - drawn) ** 2).sum()))
    total = float(((picture - ramp) ** 2).sum())
    return 1 - min(unexplained) / max(total, 1e-8)


def shows_objects(sight: Sight, objects: Sequence[str]) -> bool:
    """Tell whether exactly the asked objects were found, wherever they stand."""
    return sorted(finding.noun for finding in sight.found) == sorted(objects)


def shows_layout(sight: Sight, objects: Sequence[str], layout: str) -> bool:
    """Tell whether the asked objects were found and stand to each other as asked.

    Args:
        sight: of one or two objects.
        objects: nouns in the order of the layout (see ``ldm.data.demo.scenes.Scene``).
        layout: "lone", "beside", "stacked" or "riding".
    """
    if not shows_objects(sight, objects):
        return False
    if layout == "lone":
        return True
    by_noun = {finding.noun: finding for finding in sight.found}
    first, second = (by_noun[noun] for noun in objects)
    dx, dy = (b - a for a, b in zip(first.centre, second.centre, strict=True))
    if layout == "beside":
        return dx > abs(dy)
    gap = second.box[1] - first.box[3]
    return dy > abs(dx) and (gap < _RIDING_GAP) == (layout == "riding")
