"""Where a tab takes pictures and masks, and how what the browser sends of them is read."""

from __future__ import annotations

from typing import Any

import gradio as gr
from PIL import Image

from apps.studio.state import Studio
from apps.studio.words import shown
from ldm.images.io import open_image
from ldm.pipelines.masks import Mask
from optimizedSD.web.pictures import is_marked, mask_of, opened, own_picture, plain_picture

# Seen on white, on black and on skin; more than half opaque, which is what marks a pixel.
BRUSH = ("#e6007e", 0.7)
HEIGHT = 420  # pixels of the field


def picture_field(
    studio: Studio, name: str, label: str = "picture", height: int = HEIGHT
) -> gr.Image:
    """Return a field for one picture, taken as it is.

    Args:
        studio: The studio.
        name: Its element on the page is NAME-picture.
        label: The key of its label.
        height: In pixels.
    """
    return _kept(
        studio,
        gr.Image(
            label=shown(label),
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            buttons=["fullscreen"],
            height=height,
            elem_id=f"{name}-picture",
        ),
    )


def paint_field(studio: Studio, name: str) -> gr.ImageEditor:
    """Return a field for a picture that is painted over where it is to be redrawn."""
    return _kept(
        studio,
        gr.ImageEditor(
            label=shown("paint_over"),
            type="pil",
            format="png",  # lossless: the pixels that are kept must not change
            sources=("upload", "clipboard"),
            transforms=(),  # gradio's crop moves the picture, but not what was painted on it
            layers=False,
            brush=gr.Brush(
                default_size=max(8, studio.own_size // 8), colors=[BRUSH], color_mode="fixed"
            ),
            height=HEIGHT,
            elem_id=f"{name}-picture",
        ),
    )


def mask_field(studio: Studio, name: str) -> gr.Image:
    """Return a field for a mask from a file."""
    return _kept(
        studio,
        gr.Image(
            label=shown("mask"),
            type="filepath",
            format="png",
            image_mode=None,
            sources=["upload", "clipboard"],
            buttons=[],
            elem_id=f"{name}-mask",
        ),
    )


def _kept(studio: Studio, made: Any) -> Any:
    """Return a field whose picture a reload keeps."""
    studio.given[made.elem_id] = made
    return made


def picture_of(value: Any) -> Image.Image:
    """Return the picture of ``picture_field``, RGB on white.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    return plain_picture({"background": opened(value)})


def file_of(value: Any) -> Image.Image:
    """Return the picture of ``picture_field`` as its file has it, with all that the file says.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    picture_of(value)
    return open_image(value["path"])


def painted_of(
    value: Any, uploaded: Any, *, needs_mask: bool, transparent: bool
) -> tuple[Image.Image, Mask | None]:
    """Return the picture of ``paint_field``, RGBA if it is not opaque, and what of it is marked.

    Args:
        value: Of ``paint_field``.
        uploaded: Of ``mask_field``; joined with what is painted.
        needs_mask: Whether something has to be marked; if not, None is nothing.
        transparent: Whether transparency is kept; else there is white behind it.

    Raises:
        UserError: There is no picture, nothing is marked, or the mask does not fit.
    """
    editor = opened(value and {part: value[part] for part in ("background", "layers")})
    image = own_picture(editor) if transparent else plain_picture(editor)
    mask = opened(uploaded)
    if not (needs_mask or is_marked(editor, mask)):
        return image, None
    return image, mask_of(editor, mask)
