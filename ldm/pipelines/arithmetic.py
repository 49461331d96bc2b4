"""How a pipeline's runs compute: in which numbers, and by which kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from typing import TYPE_CHECKING

import torch

from ldm.pipelines.phases import half_of
from ldm.pipelines.progress import Notice, Observer
from ldm.pipelines.request import Request
from ldm.pipelines.run import Execution

if TYPE_CHECKING:  # most runs need none of them
    from ldm.kernels.prepare import Kernels
    from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
    from ldm.pipelines.staging import StagedModel

LARGE = 256**2
"""Pixels of a picture from which packed weights save so much time that a user should know, and
whose maps are new memory from the system at each operation unless it is kept."""
PLAIN = "--kernels plain is used"


class Arithmetic:
    """A model's arithmetic, chosen anew for each run; what was packed for one serves the next.

    Args:
        model: The hub.
        device: Where it computes.
        staged: Its parts in turns, if they take turns.
    """

    def __init__(
        self, model: LatentSpaceDiffusion, device: torch.device, staged: StagedModel | None
    ) -> None:
        self.model, self.device, self.staged = model, device, staged
        self._kernels: Kernels | None = None
        self._packed_in: torch.dtype | None = None  # None is float32

    @contextmanager
    def of_run(self, request: Request, observer: Observer) -> Iterator[Execution]:
        """Make the device and the model ready for a run, and undo it at the end."""
        settings = request.settings
        self._say(request, observer)
        with ExitStack() as stack:
            if settings.precision == "int8":
                from ldm.pipelines.precision import in_integers

                stack.enter_context(in_integers(self.model, self.device))
            if self.staged is not None:
                execution = stack.enter_context(self.staged.run(request, observer))
            else:
                execution = self._whole(request, observer, stack)
            if settings.asked:
                from ldm.pipelines.speed import sped_up

                whole = self.staged is None
                stack.enter_context(sped_up(self.model, settings, self.device, whole, observer))
            yield execution

    def _whole(self, request: Request, observer: Observer, stack: ExitStack) -> Execution:
        half = half_of(self.device, request.settings.precision)
        self._pack(request, half, observer, stack)
        if half is not None:
            from ldm.pipelines.precision import weights_in

            packed = () if self._kernels is None else self._kernels.taken
            stack.enter_context(weights_in(self.model, half, packed))
        return Execution(self.device, half)

    def _pack(
        self,
        request: Request,
        half: torch.dtype | None,
        observer: Observer,
        stack: ExitStack,
    ) -> None:
        """Compute with weights that oneDNN has packed, if ``--kernels`` says so."""
        settings, large = request.settings, _is_large(request)
        if settings.kernels == "plain" or settings.compile or self.device.type != "cpu":
            self._forget()
        else:
            self._kernels = self._make(half, observer)
        if self.device.type == "cpu" and (large or self._kernels is not None):
            from ldm.kernels.pages import kept_pages

            stack.enter_context(kept_pages())
        if self._kernels is not None:
            stack.enter_context(self._kernels.during_run())

    def _make(self, half: torch.dtype | None, observer: Observer) -> Kernels | None:
        from ldm.kernels.element_type import computes_in
        from ldm.kernels.prepare import Kernels, is_available, lacking_memory

        if not is_available():
            observer(Notice(f"this build of torch has no oneDNN: {PLAIN}"))
            return None
        if half is not None and not computes_in(half):
            name = str(half).removeprefix("torch.")
            observer(Notice(f"packed weights do not multiply in {name} here: {PLAIN}"))
            return None
        if self._kernels is not None and self._packed_in == half:
            return self._kernels
        self._forget()  # another type takes another amount of memory
        self._packed_in = half
        for tiles, instead in ((True, "large maps are not cut into tiles"), (False, PLAIN)):
            kernels = Kernels(self.model, tiles=tiles)
            lacking = lacking_memory(kernels.most_numbers * (half or torch.float32).itemsize)
            if not lacking:
                return kernels
            observer(Notice(f"{lacking}: {instead}"))
        return None

    def _forget(self) -> None:
        if self._kernels is not None:
            self._kernels.release()
            self._kernels = None

    def _say(self, request: Request, observer: Observer) -> None:
        """Say what would take less time."""
        settings, whole = request.settings, self.staged is None
        here = whole and self.device.type == "cpu" and _is_large(request)
        if here and settings.kernels == "plain" and not settings.compile:
            observer(Notice("--kernels auto takes less time for these pictures, see --help"))
        if self.device.type == "cpu" and request.is_long(self.model):
            from ldm.pipelines.precision import notices_on_format

            for text in notices_on_format(settings, self.device):
                observer(Notice(text))


def _is_large(request: Request) -> bool:
    """Return whether pictures are large; those of a folder, which are read one by one, may be."""
    return request.settings.takes_folder or prod(request.final_size) >= LARGE
