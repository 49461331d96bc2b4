"""Demo scenes in another style, for adapters that learn one: every glyph has a thick outline.

Shapes: pictures are (H, W, 3) float32 in [-1, 1], RGB.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from ldm.data.demo.glyphs import resized_glyph
from ldm.data.demo.scenes import Scene, SceneDataset, backdrop, placed

OUTLINE = (20, 20, 20)
"""Colour of the outline: red, green, blue in 0..255."""
THICKNESS = 3 / 64
"""Width of the outline as a fraction of the picture's side: three pixels of 64.

The bundled model's autoencoder, four pixels to a latent, blurs thinner ones away.
"""


def outlined(scene: Scene, size: int) -> np.ndarray:
    """Draw a scene whose glyphs have an outline: (size, size, 3) float32 in [-1, 1]."""
    picture = backdrop(scene, size)
    # The first object is drawn last, as in plain scenes.
    for noun, box in reversed(list(zip(scene.objects, scene.boxes, strict=True))):
        colour, alpha = np.zeros_like(picture), np.zeros_like(picture[..., :1])
        rows, columns, (glyph, transparency) = placed(noun, box, size)
        colour[rows, columns], alpha[rows, columns] = glyph, 1 - transparency
        colour, transparency = ringed(colour, alpha, radius_of(size))
        picture = picture * transparency + colour
    return picture * 2 - 1


def radius_of(size: int) -> int:
    """Return the outline's width in pixels in a picture of ``size``."""
    return max(1, round(THICKNESS * size))


def ringed(colour: np.ndarray, alpha: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Put an outline of ``radius`` pixels around what is drawn on a canvas.

    Args:
        colour: (H, W, 3) in [0, 1], premultiplied by alpha.
        alpha: (H, W, 1).
        radius: 0 is no outline; what is nearer to the edge has no room for all of it.

    Returns:
        colour (H, W, 3), premultiplied, and transparency (H, W, 1) with the outline.
    """
    if radius == 0:
        return colour, 1 - alpha
    ring = dilated(alpha, radius)
    ink = np.asarray(OUTLINE, dtype=np.float32) / 255
    return ink * ring * (1 - alpha) + colour, (1 - ring) * (1 - alpha)


def outlined_glyph(
    emoji: str, height: int, width: int, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return an outlined glyph as ``resized_glyph`` returns a plain one.

    Args:
        emoji: Whose glyph.
        height: In pixels, with the outline.
        width: In pixels, with the outline.
        radius: Of the outline.
    """
    glyph, transparency = resized_glyph(emoji, height - 2 * radius, width - 2 * radius)
    margin = ((radius, radius), (radius, radius), (0, 0))
    return ringed(np.pad(glyph, margin), np.pad(1 - transparency, margin), radius)


def dilated(alpha: np.ndarray, radius: int) -> np.ndarray:
    """Return a mask (H, W, 1) that reaches further by a disc of ``radius`` pixels."""
    grown = torch.from_numpy(alpha)[None, None, ..., 0]
    for step in range(radius):
        # A square and a cross in turn are nearly round.
        grown = _grown(grown, cross=step % 2 == 0)
    return grown[0, 0, ..., None].numpy()


def _grown(mask: Tensor, *, cross: bool) -> Tensor:
    if not cross:
        return max_pool2d(mask, 3, stride=1, padding=1)
    upright = max_pool2d(mask, (3, 1), stride=1, padding=(1, 0))
    return torch.maximum(upright, max_pool2d(mask, (1, 3), stride=1, padding=(0, 1)))


class OutlinedScenes(SceneDataset):
    """Scenes of ``SceneDataset`` with outlined glyphs, under the same captions."""

    def draw(self, scene: Scene) -> np.ndarray:
        """Return a scene's picture (size, size, 3)."""
        return outlined(scene, self.size)
