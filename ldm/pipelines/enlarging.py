"""Enlarge pictures by a network while somebody may cancel that, within an operation of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ldm.pipelines.cancelling import interruptible
from ldm.upscalers.enlarge import TileObserver, TileProgress, upscale_to

if TYPE_CHECKING:
    from PIL import Image

    from ldm.pipelines.cancelling import Cancel
    from ldm.upscalers.upscaler import Upscaler


def enlarge_to(
    image: Image.Image,
    upscaler: Upscaler,
    size: tuple[int, int],
    cancel: Cancel | None,
    observer: TileObserver = lambda _: None,
) -> Image.Image:
    """Bring a picture to a width and height, in pixels; see ``ldm.upscalers.enlarge.upscale_to``.

    Args:
        image: The picture.
        upscaler: The network; other threads may use it meanwhile.
        size: Width and height.
        cancel: Ends it, on a processor within an operation and elsewhere after a tile; None never
            does.
        observer: Told of each tile.

    Raises:
        Cancelled: It was ended.
    """
    if cancel is None:
        return upscale_to(image, upscaler, size, observer=observer)
    here = _Here(cancel)

    def look(tiles: TileProgress) -> None:
        here.check()
        observer(tiles)

    here.check()
    with interruptible(upscaler.network.model, here):
        return upscale_to(image, upscaler, size, observer=look)


@dataclass
class _Here:
    """A token that is looked at in the thread that has made this, and not in others.

    Networks stay loaded, and one run's token is nothing to another run that uses the same.
    """

    cancel: Cancel

    def __post_init__(self) -> None:
        self._thread = threading.get_ident()

    def check(self) -> None:
        if threading.get_ident() == self._thread:
            self.cancel.check()
