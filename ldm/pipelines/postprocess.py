"""From decoded pixels to finished pictures: bytes, safety check, watermark, parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ldm.images.io import after_saving, to_uint8
from ldm.pipelines.batches import Batch
from ldm.pipelines.infotext import Source, write_parameters
from ldm.pipelines.progress import Notice, Observer, Picture
from ldm.safety.checker import SafetyChecker
from ldm.safety.watermark import Watermarker
from ldm.settings.generation import GenerationSettings

if TYPE_CHECKING:
    from typing import Self  # in typing from Python 3.11 on

    import torch
    from torch import Tensor

    from ldm.pipelines.cancelling import Cancel
    from ldm.pipelines.facing import Faces
    from ldm.pipelines.masks import Mask
    from ldm.pipelines.request import Request


@dataclass
class Watermark:
    """Puts the watermark on pictures that can carry one.

    Attributes:
        format: The file format that the watermark must survive.
        watermarker: What embeds it; None leaves pictures as they are.
    """

    format: str
    watermarker: Watermarker | None = field(default_factory=Watermarker)

    @classmethod
    def of(cls, kind: str, format: str = "png") -> Self:
        """Return the watermark of one of ``ldm.settings.generation.WATERMARKS``."""
        if kind != "gentle":
            return cls(format, None if kind == "off" else Watermarker())
        from ldm.safety.gentle_watermark import GentleWatermarker

        return cls(format, GentleWatermarker())

    def obstacle(self, height: int, width: int) -> Notice | None:
        """Say why pictures of this size, in pixels, carry no watermark; None if they do."""
        if self.watermarker is None:
            return Notice("Pictures carry no invisible watermark: --watermark off.")
        if not self.watermarker.fits(height, width):
            return Notice(f"Pictures of {width}x{height} are too small for the watermark.")
        if reason := self.watermarker.unavailable():
            text = f"pictures are saved without a watermark: {reason}, or add --watermark gentle"
            return Notice(text, warning=True)
        return None

    def __call__(self, plain: np.ndarray, part: Mask | None = None) -> np.ndarray:
        """Return a watermarked copy of a picture, uint8 (H, W, 3), RGB, or the picture itself.

        Args:
            plain: The picture.
            part: Where it may be changed; None is everywhere.
        """
        if self.obstacle(*plain.shape[:2]):
            return plain

        marked, _ = self.watermarker.apply(
            plain,
            # Lossless formats leave the picture unchanged.
            after_saving=lambda marked: after_saving(marked, self.format),
            part=None if part is None else part.marked,
        )
        return marked


def telling(watermark: Watermark, observer: Observer) -> Callable[[np.ndarray], np.ndarray]:
    """Return what marks pictures, uint8 (H, W, 3), and says once why it leaves them unmarked."""
    told = set()

    def mark(plain: np.ndarray) -> np.ndarray:
        obstacle = watermark.obstacle(*plain.shape[:2])
        if obstacle is not None and obstacle not in told:
            told.add(obstacle)
            observer(obstacle)
        return watermark(plain)

    return mark


@dataclass
class PostProcessor:
    """Turns a run's decoded batches into pictures.

    Attributes:
        settings: The run's.
        source: What the pictures are made from, besides the settings.
        checker: Blacks out what it flags.
        watermark: Adds the watermark.
        observer: Called with a notice for each flagged picture.
        device: Where faces are redrawn.
        cancel: Ends that early where it is asked to; None never does.
        faces: Redraws faces before anything else; None leaves them, as before ``prepare``.
    """

    settings: GenerationSettings
    source: Source
    checker: SafetyChecker
    watermark: Watermark
    observer: Observer
    device: torch.device | str = "cpu"
    cancel: Cancel | None = None
    faces: Faces | None = None

    @classmethod
    def of(
        cls,
        request: Request,
        checker: SafetyChecker,
        observer: Observer,
        device: torch.device,
        cancel: Cancel | None,
    ) -> Self:
        """Return what finishes the pictures of a request."""
        settings = request.settings
        source = Source(
            model=request.choice.name,
            fingerprint=request.choice.fingerprint,
            device=device.type,
            size=request.recorded_size,
            shown=request.shown_size,
            init_image=request.image,
            adapters=request.adapters,
        )
        watermark = Watermark.of(settings.watermark, settings.format)
        return cls(settings, source, checker, watermark, observer, device=device, cancel=cancel)

    def prepare(self) -> None:
        """Report what will be missing, and find damaged files before anything is drawn.

        Raises:
            UserError: the files of the safety checker, or of what redraws faces, are damaged.
        """
        if self.settings.restore_faces is not None:
            from ldm.pipelines.facing import Faces  # most runs redraw none

            self.faces = Faces.asked(self.settings, self.device, self.observer)
            self.source = replace(self.source, further=self.faces.recorded())
        if self.checker.status is not None:
            self.observer(Notice(f"Note: {self.checker.status}"))
        self.checker.load()
        if obstacle := self.watermark.obstacle(*(self.source.shown or self.source.size)):
            self.observer(obstacle)

    @property
    def _repainted(self) -> Mask | None:
        """The part of the init image that was repainted; None is all of it."""
        return self.source.init_image and self.source.init_image.repainted

    @property
    def _opacity(self) -> np.ndarray | None:
        return self.source.init_image and self.source.init_image.opacity

    def _kept(self, drawn: np.ndarray) -> np.ndarray:
        """Return pictures (B, H, W, 3) with the init image's pixels where it is kept."""
        image = self.source.init_image
        return drawn if image is None else image.restore(drawn)

    def pictures(self, batch: Batch, decoded: Tensor) -> Iterator[Picture]:
        """Yield the wanted pictures of a decoded batch (B, 3, H, W) in [-1, 1].

        Raises:
            UserError: the model computed NaN.
        """
        kept = list(batch.kept)
        drawn = tuple(to_uint8(decoded, rounded=r)[kept] for r in (False, True))
        if self.faces is not None:
            numbers = [batch.places[row].index + 1 for row in kept]
            drawn = self.faces.redrawn(*drawn, numbers, self.observer, self.cancel)
        pixels, seen = map(self._kept, drawn)
        checked = self.checker.check(pixels, seen=seen)
        for row, plain, flagged, finding in zip(kept, *checked, strict=True):
            place, prompt = batch.places[row], batch.prompts[row]
            if flagged:
                text = f"picture {place.index + 1} was blacked out by the safety checker: {finding}"
                self.observer(Notice(text, warning=True))
            seeds = self.settings.seeds(place.index)
            own = batch.recorded[row] if batch.recorded else self.settings
            if batch.templates:
                from ldm.pipelines.wildcards import notes_of  # most prompts are drawn from none

                own = replace(own, **notes_of(batch, row, own))
            settings = replace(own, prompt=prompt, **seeds)
            yield Picture(
                pixels=self.watermark(plain, None if flagged else self._repainted),
                plain=plain,
                prompt=prompt,
                seed=settings.seed,
                place=place,
                parameters=write_parameters(settings, self.source, place),
                flagged=flagged,
                number=batch.numbers[row] if batch.numbers else 0,
                opacity=None if flagged else self._opacity,
            )
