"""Put something behind the transparent parts of a picture."""

from __future__ import annotations

from PIL import Image


def over(image: Image.Image, colour: str) -> Image.Image:
    """Return a picture as RGB, with a colour behind what is transparent in it.

    Colours under transparent pixels are often black or leftovers, so they must not show.

    Args:
        image: Of any mode that Pillow converts to RGB; it is not changed, and returned as it is
            if it is opaque RGB.
        colour: A name or value that Pillow knows.

    Example:
        >>> over(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "white").getpixel((0, 0))
        (255, 255, 255)
    """
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, colour), image)
    return image if image.mode == "RGB" else image.convert("RGB")
