"""Small helpers that the whole package shares. Add no more: a helper belongs beside its use."""

from __future__ import annotations

import logging
from inspect import isfunction
from typing import Any

from ldm.building import build_from, import_object
from ldm.lazy import lazy_exports

logger = logging.getLogger(__name__)

# What CompVis's file defines or imports besides, and forks import from here.
ELSEWHERE = {
    "_do_parallel_data_prefetch": "ldm.prefetch",
    "parallel_data_prefetch": "ldm.prefetch",
    "Image": "PIL.Image:",
    "ImageDraw": "PIL.ImageDraw:",
    "ImageFont": "PIL.ImageFont:",
    "Queue": "queue",
    "Thread": "threading",
    "abc": "collections.abc:",
    "mp": "multiprocessing:",
    "np": "numpy:",
    "partial": "functools",
    "rearrange": "einops",
    "torch": "torch:",
}
__all__ = [
    "count_params",
    "default",
    "exists",
    "get_obj_from_str",
    "instantiate_from_config",
    "isfunction",
    "isimage",
    "ismap",
    "log_txt_as_img",
    "mean_flat",
    *ELSEWHERE,
]
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)


def exists(x: Any) -> bool:
    """Check whether ``x`` is not None."""
    return x is not None


def default(val: Any, d: Any) -> Any:
    """Return ``val``, or the default ``d`` (called if it is a function) when ``val`` is None."""
    if val is not None:
        return val
    return d() if isfunction(d) else d


def ismap(x: Any) -> bool:
    """Check whether ``x`` is a tensor (B, C, H, W) with more than three channels: a label map."""
    return _is_image_batch(x) and x.shape[1] > 3


def isimage(x: Any) -> bool:
    """Check whether ``x`` is a tensor (B, C, H, W) of one or three channels: a picture."""
    return _is_image_batch(x) and x.shape[1] in (1, 3)


def _is_image_batch(x: Any) -> bool:
    import torch

    return isinstance(x, torch.Tensor) and x.ndim == 4


def mean_flat(tensor):
    """Average over all dimensions but the first: (B, ...) -> (B,)."""
    return tensor.flatten(1).mean(1)


def count_params(model, verbose: bool = False) -> int:
    """Count a module's parameters; with ``verbose`` log the number in millions."""
    total = sum(p.numel() for p in model.parameters())
    if verbose:
        logger.info("%s has %.2f M parameters", type(model).__name__, total / 1e6)
    return total


def log_txt_as_img(wh: tuple[int, int], xc: list[str], size: int = 10):
    """Draw captions as black text on white pictures.

    Args:
        wh: Width and height of a picture, in pixels.
        xc: Captions, one text per picture; any script that the default font knows.
        size: Font size, in pixels.

    Returns:
        Tensor (B, 3, H, W) in [-1, 1].
    """
    import numpy as np
    import torch
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    columns = max(1, int(1.8 * wh[0] / size))
    pictures = []
    for caption in xc:
        canvas = Image.new("RGB", wh, "white")
        lines = (caption[i : i + columns] for i in range(0, len(caption), columns))
        ImageDraw.Draw(canvas).text((0, 0), "\n".join(lines), fill="black", font=font)
        pictures.append(np.asarray(canvas, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1.0)
    return torch.from_numpy(np.stack(pictures))


def get_obj_from_str(string: str, reload: bool = False) -> Any:
    """Import what the dotted path ``string`` names; see ``import_object``.

    Raises:
        UserError: There is no such module or name.
    """
    return import_object(string, reload=reload)


def instantiate_from_config(config: Any, **kwargs: Any) -> Any:
    """Build the object that a ``target:`` / ``params:`` mapping describes; see ``build_from``.

    ``kwargs`` are further arguments of the constructor, as in textual inversion's version.

    Raises:
        UserError: The target is missing or cannot be imported; a parameter is unknown or missing.
    """
    return build_from(config, **kwargs)
