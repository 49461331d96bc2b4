"""``make_mask``: a mask of any kind, made and refined."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ldm.masking.refining import refine
from ldm.settings.masks import MaskOptions


def make_mask(picture: Image.Image, options: MaskOptions, device: str = "auto") -> np.ndarray:
    """Return the mask of a picture, uint8 (H, W): 255 is marked, 0 is not.

    Args:
        picture: RGB.
        options: What to mark, and how.
        device: Where networks compute.

    Raises:
        UserError: The options do not fit each other or the picture, or a network cannot be read.

    Example:
        >>> picture = Image.new("RGB", (4, 2), "red")
        >>> picture.paste("blue", (2, 0, 4, 2))
        >>> make_mask(picture, MaskOptions(kind="colour", colour="red"))
        array([[255, 255,   0,   0],
               [255, 255,   0,   0]], dtype=uint8)
    """
    options.validate()
    return refine(_marked(picture, options, device), **options.edge())


def _marked(picture: Image.Image, options: MaskOptions, device: str) -> np.ndarray:
    chosen = options.options()
    if options.kind == "colour":
        from ldm.masking.colour import by_colour

        return by_colour(picture, **chosen)
    if options.kind == "words":
        from ldm.masking.words import by_words

        return by_words(picture, **chosen, device=device)
    if chosen["model"] is None:
        from ldm.masking.grabcut import by_grabcut

        mask = by_grabcut(picture, chosen["box"])
    else:
        from ldm.masking.subject import by_network

        mask = by_network(picture, chosen["model"], device)
    return mask if options.kind == "subject" else 255 - mask
