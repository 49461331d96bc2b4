"""AUTOMATIC1111's ``extra-single-image`` and ``png-info``: pictures made larger, recipes read."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from apps.server.front.pictures import picture_in_field
from apps.server.front.values import Fields, Unfit, about
from apps.server.sdapi.area import contained
from apps.server.sdapi.second_pass import networks
from ldm.images.embed import DIGITAL_SOURCE_TYPE, XMP_KEYWORD, parameters_in
from ldm.images.io import encode_picture
from ldm.images.metadata import parse_parameters
from ldm.images.pixels import over
from ldm.pipelines.adapter_files import find_named
from ldm.pipelines.networks import UPSCALERS as UPSCALER_SHELF

UPSCALERS: Mapping[str, Image.Resampling | None] = {
    "None": None,
    "Lanczos": Image.Resampling.LANCZOS,
    "Nearest": Image.Resampling.NEAREST,
}
"""By AUTOMATIC1111's names; None leaves a picture as it is."""
_NOT_DONE = {
    "gfpgan_visibility": ((0,), "faces are restored in pictures that are drawn"),
    "codeformer_visibility": ((0,), "faces are restored in pictures that are drawn"),
    "extras_upscaler_2_visibility": ((0,), "one upscaler is used"),
}
_NO_EFFECT = ("show_extras_results", "codeformer_weight", "upscale_first", "upscaler_2")
_LARGEST_FACTOR = 16.0


def read_upscaling(
    values: Mapping[str, Any], most: int, device: str = "cpu"
) -> tuple[Image.Image, str]:
    """Read a request of ``extra-single-image`` and do it.

    Args:
        values: Its fields.
        most: Pixels that the result may have.
        device: Where networks compute.

    Returns:
        The picture, and the name of what made it larger.

    Raises:
        Unfit: A field is unknown, not done here, or cannot have its value.
    """
    fields = Fields(values)
    for name, (allowed, why) in _NOT_DONE.items():
        fields.only(name, allowed, why)
    fields.ignore(_NO_EFFECT)
    mode = fields.whole("resize_mode", 0, low=0, high=1)
    factor = fields.number("upscaling_resize", 2.0, low=0.01, high=_LARGEST_FACTOR)
    width = fields.whole("upscaling_resize_w", 512, low=1, high=most)
    height = fields.whole("upscaling_resize_h", 512, low=1, high=most)
    crops = fields.truth("upscaling_crop", True)
    name = fields.choice("upscaler_1", "None", [*UPSCALERS, *networks()])
    sent = fields.raw("image")
    fields.close()
    image = picture_in_field(sent, "image")
    if name == "None":
        return image, name
    size = (width, height)
    if mode == 0:
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    if size[0] * size[1] > most:
        raise Unfit(
            f"a picture of {size[0]}x{size[1]} pixels was asked for; expected at most {most} in "
            "all; give a smaller size",
            "upscaling_resize",
        )
    way = {"crops": crops and mode == 1, "fits": mode == 1}
    if name not in UPSCALERS:
        image = _by_network(image, size, name, device, **way)
    return _enlarged(image, size, UPSCALERS.get(name, Image.Resampling.LANCZOS), **way), name


def _by_network(
    image: Image.Image, size: tuple[int, int], name: str, device: str, *, crops: bool, fits: bool
) -> Image.Image:
    """Return a picture enlarged so far that it only has to be cut to its size.

    Raises:
        Unfit: The network's file cannot be used, or the picture would become too large on the way.
    """
    from ldm.pipelines.pipeline import resolve_device
    from ldm.upscalers.enlarge import upscale_to
    from ldm.upscalers.upscaler import kept_upscaler

    rates = [wanted / own for wanted, own in zip(size, image.size, strict=True)]
    rate = max(rates) if crops else min(rates)
    if fits:
        size = tuple(max(1, round(side * rate)) for side in image.size)
    said = image.info
    with about("upscaler_1"):
        path = find_named(UPSCALER_SHELF, name, "upscaler_1")
        made = upscale_to(over(image, "white"), kept_upscaler(path, resolve_device(device)), size)
    made.info = said
    return made


def _enlarged(
    image: Image.Image, size: tuple[int, int], method: Image.Resampling, *, crops: bool, fits: bool
) -> Image.Image:
    """Return a picture at a size: cut to its proportions, within it, or by a factor."""
    said = image.info
    image = over(image, "white")
    if crops:
        image = ImageOps.fit(image, size, method)
    else:
        image = contained(image, size, method) if fits else image.resize(size, method)
    image.info = said
    return image


def upscaled(values: Mapping[str, Any], most: int, device: str = "cpu") -> tuple[str, str]:
    """Return what ``read_upscaling`` has done in words, and the picture as base64."""
    image, name = read_upscaling(values, most, device)
    return f"<p>{name}: {image.width}x{image.height}</p>", _encoded(image)


def _encoded(image: Image.Image) -> str:
    """Return a picture as base64 of a PNG that keeps its recipe, and its mark if it has one."""
    recipe = parameters_in(image)
    marked = DIGITAL_SOURCE_TYPE in str(image.info.get(XMP_KEYWORD, ""))
    pixels = np.asarray(over(image, "white"))
    data = encode_picture(pixels, "png", recipe, synthetic=marked or recipe is not None)
    return base64.b64encode(data).decode()


def read_info(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a picture's file says of how it was made.

    Args:
        values: The fields of a request of ``png-info``.

    Raises:
        Unfit: There is no picture to read.
    """
    fields = Fields(values)
    sent = fields.raw("image")
    fields.close()
    text = parameters_in(picture_in_field(sent, "image"))
    if text is None:
        return {"info": "", "items": {}, "parameters": {}}
    prompt, negative, entries = parse_parameters(text)
    return {
        "info": text,
        "items": {"parameters": text},
        "parameters": {"Prompt": prompt, "Negative prompt": negative, **entries},
    }
